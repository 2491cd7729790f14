// The WebSocket to the server: reads its messages, sends gestures, and comes back after a break.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const TICK_MS = 1000;
const FIRST_SILENCE = 5; // ticks; the server says something every second
const LONGEST_SILENCE = 20; // for a network on which a picture travels so long
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
  /** onMessage(header, parts) for every message, onLost(why) when there is no connection any more. */
  constructor(onMessage, onLost) {
    this.onMessage = onMessage;
    this.onLost = onLost;
    this.waitMs = FIRST_WAIT_MS;
    this.silence = FIRST_SILENCE;
    this.connect();
    setInterval(() => this.tick(), TICK_MS);
  }

  /** Sends a gesture; false while there is no connection. */
  send(gesture) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(gesture));
    return true;
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.ticks = 0;
    this.socket = new WebSocket(`${scheme}//${location.host}/viewer`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = (event) => this.comeBack(event.code === TRY_AGAIN_LATER ? event.reason : "");
  }

  take(data) {
    this.ticks = 0;
    this.waitMs = FIRST_WAIT_MS;
    if (typeof data === "string") {
      this.onMessage(JSON.parse(data), []);
    } else {
      const { header, parts } = opened(data);
      this.onMessage(header, parts);
    }
  }

  /**
   * Counts the silence. Where network or power are gone nobody closes the connection, and the browser keeps it open for
   * minutes. A page that is hidden or sleeps has few ticks, so that it never counts its own silence.
   */
  tick() {
    this.ticks += 1;
    if (this.socket && this.ticks > this.silence) this.giveUp();
  }

  /** Does not wait for the browser to notice. A connection that was open may be slow: the next one gets more time. */
  giveUp() {
    const { socket } = this;
    if (socket.readyState === WebSocket.OPEN) this.silence = Math.min(2 * this.silence, LONGEST_SILENCE);
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
    this.comeBack("");
  }

  comeBack(why) {
    this.socket = null;
    this.onLost(why);
    setTimeout(() => this.connect(), this.waitMs);
    this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
  }
}
