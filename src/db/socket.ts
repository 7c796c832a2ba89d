import type { Server } from "./address.ts";
import type { TlsMode } from "./address-parameters.ts";
import { AnswersDue } from "./answers-due.ts";

/** Certificates and keys, as texts; what `tls.connect` of Node takes. */
export interface TlsOptions {
  readonly ca?: string | readonly string[];
  readonly cert?: string;
  readonly key?: string;
  readonly passphrase?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

export interface SocketOptions {
  readonly server: Server;
  readonly tls: TlsMode;
  readonly isTlsDirect: boolean;
  readonly tlsOptions: TlsOptions;
}

/** The part of Node's sockets that is used here. */
interface Socket {
  on(event: string, listener: (...args: never[]) => void): Socket;
  once(event: string, listener: (...args: never[]) => void): Socket;
  removeListener(event: string, listener: (...args: never[]) => void): Socket;
  emit(event: string, ...args: unknown[]): boolean;
  write(bytes: Uint8Array): boolean;
  destroy(): void;
  isPaused(): boolean;
  setNoDelay(isOn: boolean): void;
  setKeepAlive(isOn: boolean, ms: number): void;
}

interface Net {
  connect(where: { host: string; port: number } | { path: string }): Socket;
}

interface Tls {
  connect(options: object): Socket;
}

/** A socket for one session of postgres.js, made here so that we hear of its end first, and can end it ourselves. */
export interface OwnSocket {
  /** For the driver's option `socket`. Works once: the session of a socket that is gone is over. */
  readonly make: () => Promise<Socket>;
  /** Local time since when nothing has come although an answer is due; undefined when none is. */
  readonly unansweredSince: number | undefined;
  /** Closes it at once, whatever the network does. */
  destroy(): void;
}

const SSL_REQUEST = Uint8Array.of(0, 0, 0, 8, 4, 210, 22, 47);
const ACCEPTED = 83;

/**
 * Makes the socket of one session. Undefined where the runtime has no sockets of Node's kind; then the driver makes its own.
 *
 * postgres.js (3.4) forgets its socket when that closes, and whatever it is asked to send from then on (a transaction's rollback for
 * example) ends the process with an error that nobody can catch. So it never hears of the close: `onClose` does, and what waits for an
 * answer is rejected by an error event, after which nobody sends anything on this session any more.
 */
export function ownSocket(options: SocketOptions, onClose: () => void): OwnSocket | undefined {
  const net = builtin<Net>("node:net");
  const tls = builtin<Tls>("node:tls");
  if (!net || !tls) return undefined;
  const owned = new Set<Socket>();
  let isOver = false;
  const answers = new AnswersDue();
  let read: Socket | undefined;
  const own = (socket: Socket): Socket => {
    owned.add(socket);
    if (isOver) socket.destroy();
    return socket;
  };
  return {
    get unansweredSince() {
      // While the driver does not read, as when what copies rows out is slow to take them, nothing is due.
      return read?.isPaused() ? undefined : answers.since;
    },
    async make() {
      if (isOver || owned.size > 0) throw broken();
      const raw = own(openTcp(net, options.server));
      await opened(raw, "connect");
      raw.setNoDelay(true);
      raw.setKeepAlive(true, 60_000);
      const socket = await secured(raw, tls, options, own);
      read = socket;
      socket.once("close", () => {
        isOver = true;
        onClose();
        socket.emit("error", broken());
      });
      socket.on("data", (bytes: Uint8Array) => answers.came(bytes));
      const { on, write } = socket;
      socket.write = (...args) => {
        answers.sent(args[0]);
        return write.apply(socket, args);
      };
      // From here on the driver's own listeners are added.
      socket.on = (event, listener) =>
        event === "close" ? socket : on.call(socket, event, listener);
      return socket;
    },
    destroy() {
      isOver = true;
      for (const socket of owned) socket.destroy();
    },
  };
}

/** Node's modules by name and not by import, so that runtimes without them can load this file. */
function builtin<T>(name: string): T | undefined {
  const { process } = globalThis as {
    process?: { getBuiltinModule?: (name: string) => unknown };
  };
  return process?.getBuiltinModule?.(name) as T | undefined;
}

function openTcp(net: Net, { host, port }: Server): Socket {
  return net.connect(host.startsWith("/") ? { path: `${host}/.s.PGSQL.${port}` } : { host, port });
}

async function secured(
  raw: Socket,
  tls: Tls,
  { server, tls: mode, isTlsDirect, tlsOptions }: SocketOptions,
  own: (socket: Socket) => Socket,
): Promise<Socket> {
  if (mode === "disable") return raw;
  if (!isTlsDirect) {
    raw.write(SSL_REQUEST);
    const answer = await firstBytes(raw);
    if (answer[0] !== ACCEPTED) {
      if (mode === "prefer") return raw;
      throw Object.assign(new Error("the server offers no TLS"), { code: "ERR_TLS_REFUSED" });
    }
  }
  const isVerified = mode === "verify-ca" || mode === "verify-full" || tlsOptions.ca !== undefined;
  const socket = own(
    tls.connect({
      socket: raw,
      // An IP address is no name that could be asked for.
      ...(/[a-z]/i.test(server.host) && !server.host.includes(":") && { servername: server.host }),
      ...(isTlsDirect && { ALPNProtocols: ["postgresql"] }),
      ...(mode === "verify-ca" && { checkServerIdentity: () => undefined }),
      rejectUnauthorized: isVerified,
      ...tlsOptions,
    }),
  );
  await opened(socket, "secureConnect");
  return socket;
}

function opened(socket: Socket, event: "connect" | "secureConnect"): Promise<void> {
  return outcome(socket, event, () => undefined);
}

function firstBytes(socket: Socket): Promise<Uint8Array> {
  return outcome(socket, "data", (bytes: Uint8Array) => bytes);
}

/** Resolves with what an event brings; rejects if the socket fails or closes before. Keeps one listener for later errors. */
function outcome<T, A extends unknown[]>(
  socket: Socket,
  event: string,
  answer: (...args: A) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const onEvent = (...args: A): void => {
      socket.removeListener("error", onError);
      socket.removeListener("close", onGone);
      socket.on("error", () => undefined);
      resolve(answer(...args));
    };
    const onError = (error: Error): void => reject(error);
    const onGone = (): void => reject(broken());
    socket.once(event, onEvent as never);
    socket.on("error", onError as never);
    socket.on("close", onGone);
  });
}

function broken(): Error {
  return Object.assign(new Error("the connection broke"), { code: "CONNECTION_CLOSED" });
}
