// What to do about a failure of a delivery, where its text says enough to tell.

const byStatus: [test: (status: number) => boolean, advice: string][] = [
  [(s) => s === 1102, "Nothing answered at this address within 5 s. Is the destination running, is its port right, and may this machine reach it?"],
  [(s) => s === 1105, "The name of the host has no address. Look for a typing error in the destination."],
  [(s) => s === 1106, "The connection stood still for 10 s, or TLS did not come about. Does the destination speak TLS on this port, and is it overloaded?"],
  [(s) => s === 401 || s === 403, "The destination refuses the credentials. Renew them, or give them the right to write."],
  [(s) => s === 404, "The destination knows no such path, bucket or index. Correct it, or create it there."],
  [(s) => s === 408 || s === 425 || s === 429, "The destination is overloaded or limits requests. Deliveries slow down by themselves; ask for a higher limit, or let batches be larger."],
  [(s) => s === 413, "A batch is too large for the destination. It is divided by itself; a lower bound of bytes saves that work."],
  [(s) => s === 400 || s === 422, "The destination refuses what is in a batch or a record. Compare the content with what it expects, and change the output or the destination."],
  [(s) => s >= 300 && s < 400, "The destination redirects, which is not followed: use the address that it redirects to."],
  [(s) => s >= 500 && s < 600, "The destination has a fault of its own. Deliveries go on by themselves when it is mended."],
  [(s) => s >= 400 && s < 500, "The destination refuses the request. Look at its settings there, and at those of this job."],
];

const byText: [pattern: RegExp, advice: string][] = [
  [/dead letters .* full/i, "Nothing is dropped: the delivery waits until letters are sent again or deleted."],
  [/are dead letters/i, "The rest was delivered. Mend what the destination refuses in these records, and send them again."],
  [/retention|lost|truncated/i, "These events are gone from Kafka. A replay may find them in ClickHouse; a longer retention of the topic gives deliveries more time."],
  [/certificate|x509/i, "The certificate of the destination is not trusted here. Install one that is, or correct the host."],
  [/connection refused/i, "Nothing listens at this address. Is the destination running, and is its port right?"],
  [/not allowed/i, "The operator's rules forbid this destination. Ask them, or use another one."],
  [/no space|permission denied|read-only/i, "This machine cannot write to the folder: look at its space and at its rights."],
];

/** A sentence, or undefined where nobody could know better than the message. */
export function advise(message: string, status?: number): string | undefined {
  const code = status || Number(/(?:\bstatus:|^|: )(\d{3,4})\b/.exec(message)?.[1]);
  const found = byText.find(([pattern]) => pattern.test(message)) ?? byStatus.find(([test]) => test(code));
  return found?.[1];
}
