# Takes orders from the queue and writes each down. Several of these share one queue.
set -eu
psql --quiet --no-psqlrc --command 'create table if not exists orders (item text)' || true
echo "$(hostname) works"
while true; do
    # The queue's name and the item; nothing when none came.
    item=$(redis-cli -h queue blpop orders 5 | tail -n 1)
    [ -n "$item" ] || continue
    psql --quiet --no-psqlrc --set item="$item" <<'SQL'
insert into orders values (:'item')
SQL
    echo "$(hostname) wrote down $item"
done
