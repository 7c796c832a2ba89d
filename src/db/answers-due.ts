/** Messages of the protocol, by their first byte: those that are answered with ReadyForQuery, Flush, and that answer. */
const SYNC = 0x53;
const QUERY = 0x51;
const FUNCTION_CALL = 0x46;
const FLUSH = 0x48;
const READY = 0x5a;
/** Notices, notifications and changed settings come unasked. */
const UNASKED: ReadonlySet<number> = new Set([0x4e, 0x41, 0x53]);

/**
 * Counts what the server still has to answer on one connection. Bytes that come tell only that the network was there: where several
 * statements are under way, the answer to one must not hide that none comes to the next.
 */
export class AnswersDue {
  #due = 0;
  /** So many of those are ahead of a Flush that has no answer; undefined without one. */
  #aheadOfFlush: number | undefined;
  #since: number | undefined;
  readonly #sent = messageTypes((type) => {
    if (type === SYNC || type === QUERY || type === FUNCTION_CALL) this.#due += 1;
    else if (type === FLUSH) this.#aheadOfFlush = this.#due;
  }, true);
  readonly #came = messageTypes((type) => {
    if (type === READY) {
      // The first one answers the startup.
      if (this.#due > 0) this.#due -= 1;
      if (this.#aheadOfFlush) this.#aheadOfFlush -= 1;
    } else if (this.#aheadOfFlush === 0 && !UNASKED.has(type)) this.#aheadOfFlush = undefined;
  }, false);

  /** Local time since when nothing has come although something is due; undefined when nothing is due. */
  get since(): number | undefined {
    return this.#since;
  }

  /** All that the client sends, from its startup message on. */
  sent(bytes: Uint8Array): void {
    this.#sent(bytes);
    if (this.#isDue) this.#since ??= performance.now();
  }

  came(bytes: Uint8Array): void {
    this.#came(bytes);
    this.#since = this.#isDue ? performance.now() : undefined;
  }

  get #isDue(): boolean {
    return this.#due > 0 || this.#aheadOfFlush !== undefined;
  }
}

/** Tells the type of each message in a stream, which may be cut anywhere. The startup message has none. */
function messageTypes(
  tell: (type: number) => void,
  beginsWithStartup: boolean,
): (bytes: Uint8Array) => void {
  let type = 0;
  let length = 0;
  /** How many bytes of the head (type and length) are there. */
  let known = beginsWithStartup ? 1 : 0;
  /** How many bytes of the message are still to come. */
  let left = 0;
  return (bytes) => {
    for (let at = 0; at < bytes.length; ) {
      if (left > 0) {
        const taken = Math.min(left, bytes.length - at);
        left -= taken;
        at += taken;
        continue;
      }
      const byte = bytes[at] as number;
      at += 1;
      if (known === 0) type = byte;
      else length = length * 256 + byte;
      known += 1;
      if (known < 5) continue;
      tell(type);
      left = Math.max(0, length - 4);
      known = 0;
      length = 0;
    }
  };
}
