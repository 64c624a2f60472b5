// From when a replay has to send what a paused job missed.

/** How long events may be on their way to Kafka; what a gateway keeps for longer in its spool is not counted in. */
const onTheWayMS = 60_000;

/**
 * The beginning of a replay that leaves nothing out, from what a job that is off says of
 * itself: its partitions stopped at different places, so the newest that was delivered is
 * too late. Undefined where nobody knows. A job that is on has nothing to say of it any more.
 */
export function missedFrom(completeUntil: string | null): string | undefined {
  return completeUntil === null ? undefined : new Date(Date.parse(completeUntil) - onTheWayMS).toISOString();
}
