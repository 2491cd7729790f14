// Mouse, pen and fingers on the canvas become clicks, boxes, zooming and moving.

const LONG_PRESS_MS = 550;
const DRAG_CSS = { mouse: 5, pen: 8, touch: 12 };
const WHEEL_ZOOM = 0.0016; // of a factor's logarithm, for a CSS pixel that the wheel scrolls
const LEFT = 0;
const MIDDLE = 1;
const RIGHT = 2;

/**
 * Calls, places in image pixels (edges) unless another unit is given:
 *   on.press()                    something is down: the picture must not change
 *   on.release()                  it is up again
 *   on.click(place, button, event) button "left", "right" or "long"
 *   on.drag(box), on.box(box)     while dragging, and at its end; box is XYXY inside the image; null: given up
 *   on.hover({ x, y })            the pointer is over this place of the page; null: it is not over the canvas
 */
export class Pointer {
  constructor(canvas, view, on) {
    this.canvas = canvas;
    this.view = view;
    this.on = on;
    this.pointers = new Map(); // what is down, by pointerId
    this.start = null; // of the click or box, until it is known to be something else
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => on.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("auxclick", (event) => event.preventDefault());
  }

  /** Drops a box that is being dragged. */
  giveUp() {
    clearTimeout(this.timer);
    if (this.start) {
      this.start = null;
      this.on.drag(null);
      this.on.release();
    }
  }

  down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, button: event.button });
    if (this.pointers.size > 1 || event.button === MIDDLE) {
      this.giveUp();
      return;
    }
    const place = this.view.toImage(event.clientX, event.clientY);
    if (!this.view.isInside(place)) return;
    this.start = { place, x: event.clientX, y: event.clientY, button: event.button, isBox: false };
    this.on.press();
    if (event.pointerType !== "mouse") this.timer = setTimeout(() => this.longPress(event), LONG_PRESS_MS);
  }

  longPress(event) {
    const { place } = this.start;
    this.start = null;
    navigator.vibrate?.(15);
    this.on.click(place, "long", event);
    this.on.release();
  }

  moved(event) {
    this.on.hover({ x: event.clientX, y: event.clientY });
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) this.pinch(event);
    else if (before.button === MIDDLE) this.pan(before, event);
    else if (this.start?.button === LEFT) this.stretch(event);
    Object.assign(before, { x: event.clientX, y: event.clientY });
  }

  up(event, isCancelled = false) {
    this.pointers.delete(event.pointerId);
    clearTimeout(this.timer);
    const start = this.start;
    if (!start) return;
    this.start = null;
    if (isCancelled) this.on.drag(null);
    else if (start.isBox) this.on.box(this.boxTo(start, event));
    else if (start.button === LEFT || start.button === RIGHT) {
      this.on.click(start.place, start.button === LEFT ? "left" : "right", event);
    }
    this.on.release();
  }

  stretch(event) {
    const moved = Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y);
    if (moved > (DRAG_CSS[event.pointerType] ?? DRAG_CSS.mouse)) {
      this.start.isBox = true;
      clearTimeout(this.timer);
    }
    if (this.start.isBox) this.on.drag(this.boxTo(this.start, event));
  }

  boxTo(start, event) {
    const [width, height] = this.view.size;
    const [x, y] = this.view.toImage(event.clientX, event.clientY);
    const [endX, endY] = [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
    const [startX, startY] = start.place;
    return [Math.min(startX, endX), Math.min(startY, endY), Math.max(startX, endX), Math.max(startY, endY)];
  }

  pinch(event) {
    const now = { x: event.clientX, y: event.clientY };
    const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const before = this.pointers.get(event.pointerId);
    const apart = (a, b) => Math.max(20, Math.hypot(a.x - b.x, a.y - b.y));
    const middle = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
    this.view.zoomAt(middle.x, middle.y, apart(now, other) / apart(before, other));
    this.pan(middle, { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
  }

  pan(from, to) {
    const { scale } = this.view.placement();
    this.view.move((from.x - to.clientX) / scale, (from.y - to.clientY) / scale);
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;
    this.view.zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY * lines * WHEEL_ZOOM));
  }
}
