# Runs a PostgreSQL cluster until its standard input closes, which the kernel sees to even when the test is killed outright.
# Arguments: the folder of PostgreSQL's programs, the folder that the cluster may fill, and that is removed at the end; then what PostgreSQL is told besides.
programs=$1 folder=$2
shift 2
trap '' INT TERM HUP
trap 'rm -rf -- "$folder"' EXIT
"$programs/initdb" --pgdata "$folder/data" --username lm --auth trust --encoding UTF8 --locale C >"$folder/initdb.log" 2>&1 || {
    cat "$folder/initdb.log" >&2
    exit 1
}
"$programs/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c max_connections=200 "$@" >"$folder/postgres.log" 2>&1 </dev/null &
server=$!
cat >/dev/null
# The data are thrown away: nothing need be written back.
kill -QUIT "$server"
wait "$server"
