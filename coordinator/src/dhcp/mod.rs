//! DHCP for the lender's wire.
