#!/bin/sh
# Reports each push to Lambent. Needs curl and openssl.
set -eu
url='@URL@'
secret=$(cat '@SECRET_FILE@')
quote() { printf '"%s"' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"; }
updates=''
while read -r before after ref; do
  update="{\"ref\":$(quote "$ref"),\"before\":\"$before\",\"after\":\"$after\"}"
  updates="$updates${updates:+,}$update"
done
folder=$(cd "$(git rev-parse --git-dir)" && pwd)
name=$(basename "$folder" .git)
body="{\"repository\":$(quote "$name"),\"clone_url\":$(quote "$folder"),\"sender\":$(quote "${USER:-}"),\"updates\":[$updates]}"
now=$(date +%s)
signature=$(printf '%s.%s' "$now" "$body" | openssl dgst -sha256 -hmac "$secret" | sed 's/.*= *//')
curl --silent --show-error --fail --max-time 30 --output /dev/null \
  --header 'content-type: application/json' \
  --header "x-lambent-time: $now" \
  --header "x-lambent-signature: sha256=$signature" \
  --data-binary "$body" "$url" || echo 'Lambent was not told of this push.' >&2
