#!/usr/bin/env bash
# One night of a job file, for cron: run-nightly.sh JOB.toml [OPTION...]
#
# Ends with the exit code of `batchsent score`. Prints only what somebody should read, because cron mails whatever a
# job prints; everything else goes to LOG_DIR/<job>-<date>.log.
#
# A night that ends with 75 (disk full, GPU lost, the night before still running), or was stopped by a signal, is not a
# failure: the next one resumes where it stopped. PATIENCE such nights in a row are one, or a full disk would go
# unnoticed for ever.
set -euo pipefail

if [[ $# -lt 1 || ! -r $1 ]]; then
    echo "error: ${1:-no job file}; a job file that can be read was expected; run-nightly.sh JOB.toml [OPTION...]" >&2
    exit 2
fi
job=$1
shift

LOG_DIR=$(realpath --canonicalize-missing "${LOG_DIR:-logs}")
PATIENCE=${PATIENCE:-3}
TEMPORARY=75
INTERRUPTED=130
TERMINATED=143

name=$(basename "$job" .toml)
log=$LOG_DIR/$name-$(date +%F).log
unfinished_nights=$LOG_DIR/$name.unfinished-nights
mkdir -p "$LOG_DIR"

# "|| true" here and below: what a full disk does to a log must not replace batchsent's exit code.
log_line() {
    printf '%s run-nightly: %s\n' "$(date +%FT%T%z)" "$1" >>"$log" || true
}

# The lock is an open file that batchsent inherits: it is held for as long as batchsent lives, even if this script is
# killed, and the system frees it. A lock file that is there or not would outlive a power cut.
exec {lock}>>"$LOG_DIR/$name.lock"
status=0 earlier_bytes=$(stat --format %s "$log" 2>/dev/null || echo 0)
flock --nonblock --conflict-exit-code "$TEMPORARY" "$lock" 2>>"$log" || status=$?
if ((status == 0)); then
    log_line "starts: batchsent score --config $job $*"
    batchsent score --config "$job" "$@" >>"$log" 2>&1 || status=$?
elif ((status == TEMPORARY)); then
    log_line "an earlier night still runs; nothing was started"
else
    log_line "the lock cannot be taken; nothing was started"
fi
log_line "ends with exit code $status"

nights=
if ((status == TEMPORARY || status == INTERRUPTED || status == TERMINATED)); then
    read -r nights 2>/dev/null <"$unfinished_nights" || true
    nights=$((${nights:-0} + 1))
    # A night that cannot be counted, as on a full disk, is told at once.
    echo "$nights" 2>/dev/null >"$unfinished_nights" || nights=
else
    rm -f "$unfinished_nights"
fi

if ((status != 0 && (nights == 0 || nights >= PATIENCE))); then
    echo "$name ended with exit code $status on $(uname -n)${nights:+, $nights nights in a row}."
    # What was found, what was expected and what to do about it: also how to publish what the drift gate held back (4).
    tail --bytes "+$((earlier_bytes + 1))" "$log" | grep '^error: ' | tail -n 1 || true
    echo "The end of $log:"
    tail --bytes "+$((earlier_bytes + 1))" "$log" | tail -n 20 || true
fi >&2
exit "$status"
