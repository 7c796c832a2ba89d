import { once } from "node:events";
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from "node:net";

/** What becomes of bytes on their way: `drop` takes them and says nothing, as a firewall does; `hold` keeps them for later. */
type Way = "pass" | "drop" | "hold";

/** An error as a server or pooler sends it before it closes the connection. */
export interface FatalMessage {
  readonly code: string;
  readonly message: string;
  /** PgBouncer and Supavisor tell the severity once (`S`), Postgres twice (`S` and `V`). @default true */
  readonly isFromPooler?: boolean;
}

/** Which of the open connections a fault strikes. @default all */
export type Strikes = (index: number) => boolean;

/** A way to a server that fails when it is told to. Bytes are passed on as they are, so any protocol will do, poolers included. */
export interface FaultyProxy {
  readonly port: number;
  /** The target's URL through the proxy. */
  readonly url: string;
  /** Connections whose client has not closed them. */
  readonly open: number;
  /** Connections made so far. */
  readonly accepted: number;
  /** Any URL of the same server, through the proxy. */
  through(url: string): string;
  /** Open connections fall silent for ever: nothing arrives on either side, not even an end. New ones pass. */
  swallow(strikes?: Strikes): number;
  /** The same for connections made while it is on: they are accepted, and then nothing is heard. */
  swallowNew(isOn: boolean): void;
  /** Open and new connections stand still until `resume`; nothing is lost. */
  stall(): void;
  resume(): void;
  /** Cuts open connections at once (RST). */
  reset(strikes?: Strikes): number;
  /** Ends open connections in good order (FIN), on both sides. */
  end(strikes?: Strikes): number;
  /** Everything takes so much longer, each way. 0 ends it. */
  delay(ms: number): void;
  /** Nothing listens: new connections are refused. */
  refuse(isOn: boolean): Promise<void>;
  /** What the server answers next, on each open connection, is lost, and the connection is cut then. What was asked is done. */
  loseReplies(strikes?: Strikes): number;
  /** Answers the next request on each open connection with this error instead of passing it on, and closes. */
  failRequests(error: FatalMessage, strikes?: Strikes): number;
  /** Passes the next request on, but answers with this error, and closes: what was asked is done, and nobody knows. */
  failReplies(error: FatalMessage, strikes?: Strikes): number;
  /** Answers every new connection with this error; undefined ends it. */
  failNew(error: FatalMessage | undefined): void;
  /** The server's side of connections that fell silent ends at last, as by its keep-alive. */
  buryDead(): void;
  /** Leads new connections to another server from now on. Open ones stay where they are. */
  retarget(url: string): void;
  /** Cuts everything and ends. */
  close(): Promise<void>;
}

/** Starts a proxy in front of the server of a URL, on a free port of loopback. */
export async function startFaultyProxy(target: string): Promise<FaultyProxy> {
  let to = hostOf(target);
  let accepted = 0;
  let delayMs = 0;
  let isStalled = false;
  let swallowsNew = false;
  let failsNew: FatalMessage | undefined;
  const links = new Set<Link>();
  const server = createServer((near) => {
    accepted += 1;
    const link = new Link(near, connectSocket(to.port, to.host), () => delayMs, {
      onGone: () => links.delete(link),
    });
    links.add(link);
    if (isStalled) link.set("hold", "hold");
    if (swallowsNew) link.swallow();
    if (failsNew) link.onRequest = failsNew;
  });
  const listen = async (port: number): Promise<void> => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  };
  await listen(0);
  const { port } = server.address() as AddressInfo;
  const through = (url: string): string => {
    const changed = new URL(url);
    changed.hostname = "127.0.0.1";
    changed.port = String(port);
    return changed.href;
  };
  const strike = (fault: (link: Link) => void, strikes: Strikes = () => true): number => {
    const struck = [...links].filter((link, index) => !link.isSwallowed && strikes(index));
    for (const link of struck) fault(link);
    return struck.length;
  };
  return {
    port,
    url: through(target),
    through,
    get open() {
      return [...links].filter(({ near }) => !near.destroyed).length;
    },
    get accepted() {
      return accepted;
    },
    swallow: (strikes) => strike((link) => link.swallow(), strikes),
    swallowNew(isOn) {
      swallowsNew = isOn;
    },
    stall() {
      isStalled = true;
      strike((link) => link.set("hold", "hold"));
    },
    resume() {
      isStalled = false;
      strike((link) => link.set("pass", "pass"));
    },
    reset: (strikes) => strike((link) => link.cut(), strikes),
    end: (strikes) => strike((link) => link.end(), strikes),
    delay(ms) {
      delayMs = ms;
    },
    async refuse(isOn) {
      if (isOn === !server.listening) return;
      if (!isOn) return listen(port);
      // Its callback waits for open connections, which stay.
      server.close();
    },
    loseReplies: (strikes) =>
      strike((link) => {
        link.onReply = "lose";
      }, strikes),
    failRequests: (error, strikes) =>
      strike((link) => {
        link.onRequest = error;
      }, strikes),
    failReplies: (error, strikes) =>
      strike((link) => {
        link.onReply = error;
      }, strikes),
    failNew(error) {
      failsNew = error;
    },
    buryDead() {
      for (const link of links) if (link.isSwallowed) link.far.resetAndDestroy();
    },
    retarget(url) {
      to = hostOf(url);
    },
    async close() {
      for (const link of links) link.cut();
      if (!server.listening) return;
      server.close();
      await once(server, "close");
    },
  };
}

/** One client's connection, and the one to the server that was made for it. */
class Link {
  readonly near: Socket;
  readonly far: Socket;
  /** What to answer to the next request instead of passing it on. */
  onRequest: FatalMessage | undefined;
  /** What becomes of the next answer. */
  onReply: FatalMessage | "lose" | undefined;
  isSwallowed = false;
  readonly #delayMs: () => number;
  #ways: readonly [up: Way, down: Way] = ["pass", "pass"];
  readonly #held: (() => void)[] = [];

  constructor(near: Socket, far: Socket, delayMs: () => number, events: { onGone: () => void }) {
    this.near = near;
    this.far = far;
    this.#delayMs = delayMs;
    near.setNoDelay(true);
    far.setNoDelay(true);
    near.on("data", (bytes) => this.#requested(bytes));
    far.on("data", (bytes) => this.#replied(bytes));
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("error", () => undefined);
      from.on("end", () => this.#send(from === near ? 0 : 1, () => to.end()));
      from.on("close", () => {
        if (!this.isSwallowed) this.#send(from === near ? 0 : 1, () => to.destroy());
        if (near.destroyed && far.destroyed) events.onGone();
      });
    }
  }

  set(up: Way, down: Way): void {
    if (this.isSwallowed) return;
    this.#ways = [up, down];
    if (up === "hold") return;
    for (const send of this.#held.splice(0)) send();
  }

  swallow(): void {
    this.#ways = ["drop", "drop"];
    this.#held.length = 0;
    this.isSwallowed = true;
  }

  cut(): void {
    this.near.resetAndDestroy();
    this.far.resetAndDestroy();
  }

  end(): void {
    this.near.end();
    this.far.end();
  }

  #requested(bytes: Buffer): void {
    if (this.#ways[0] !== "drop" && this.onRequest) this.#fail(this.onRequest);
    else this.#send(0, () => this.far.write(bytes));
  }

  #replied(bytes: Buffer): void {
    if (this.#ways[1] === "drop" || !this.onReply) {
      this.#send(1, () => this.near.write(bytes));
    } else if (this.onReply === "lose") this.cut();
    else this.#fail(this.onReply);
  }

  #fail(error: FatalMessage): void {
    this.near.end(encodeFatal(error));
    this.far.destroy();
  }

  #send(way: 0 | 1, send: () => void): void {
    const mode = this.#ways[way];
    if (mode === "drop") return;
    if (mode === "hold") {
      this.#held.push(send);
      return;
    }
    const ms = this.#delayMs();
    // All of one way are delayed alike, so that they keep their order.
    if (ms === 0) send();
    else setTimeout(() => this.#ways[way] !== "drop" && send(), ms);
  }
}

function encodeFatal({ code, message, isFromPooler = true }: FatalMessage): Buffer {
  const fields = ["SFATAL", ...(isFromPooler ? [] : ["VFATAL"]), `C${code}`, `M${message}`];
  const body = Buffer.from(`${fields.join("\0")}\0\0`);
  const head = Buffer.alloc(5);
  head.write("E");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

function hostOf(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port || 5432) };
}
