# Sourced by fai-class. The variables that lender and enterprise merged name the server; every lent server has one class more.
. /run/leaseboot/fai.var
newclasses="LENT"
