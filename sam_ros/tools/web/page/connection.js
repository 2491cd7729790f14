// The WebSocket to the server: reads its messages, sends gestures, and comes back after a break.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const TRY_AGAIN_LATER = 1013;

/** Header and parts of a binary message: a length (4 bytes, little-endian), the header as JSON, the parts. */
export function opened(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let offset = 4 + length;
  const parts = header.parts.map((size) => {
    const part = new Uint8Array(buffer, offset, size);
    offset += size;
    return part;
  });
  return { header, parts };
}

export class Connection {
  /** onMessage(header, parts) for every message, onState("live" or "lost", why) for every change. */
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.waitMs = FIRST_WAIT_MS;
    this.connect();
  }

  /** Sends a gesture; false while there is no connection. */
  send(gesture) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(gesture));
    return true;
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/viewer`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = (event) => this.comeBack(event);
  }

  take(data) {
    this.waitMs = FIRST_WAIT_MS;
    if (typeof data === "string") {
      this.onMessage(JSON.parse(data), []);
    } else {
      const { header, parts } = opened(data);
      this.onMessage(header, parts);
    }
  }

  comeBack(event) {
    this.onState("lost", event.code === TRY_AGAIN_LATER ? event.reason : "");
    setTimeout(() => this.connect(), this.waitMs);
    this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
  }
}
