# What the demonstration's scripts share: places, and lines that say how long something took.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
demo=${HULL_DEMO:-$root/target/demo}
mkdir -p "$demo"

# fail TEXT: ends with one sentence on stderr.
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# now: milliseconds since some fixed moment.
now() {
    local up
    read -r up _ </proc/uptime
    echo $((10#${up/./} * 10))
}

# seconds MILLISECONDS: "1.23 s"
seconds() {
    printf '%d.%02d s' $(($1 / 1000)) $(($1 % 1000 / 10))
}
