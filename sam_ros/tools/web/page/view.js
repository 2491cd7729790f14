// The canvas: where the image lies on it, and everything that is drawn.

const SMALLEST_ZOOM = 1; // of the whole image
const LARGEST_SCALE = 40; // CSS pixels for a pixel of the image
const MARK_MS = 1500;
const COLOURS = { foreground: "#28dc28", more: "#28dc28", background: "#e62828" }; // as the overlay has them
const OUTLINE_CSS = 1.5;

export class View {
  /** onDrawn is called after each drawing. */
  constructor(canvas, onDrawn) {
    this.canvas = canvas;
    this.onDrawn = onDrawn;
    this.context = canvas.getContext("2d");
    this.picture = null;
    this.masks = null;
    this.preview = null;
    this.box = null; // being dragged, image pixels
    this.marks = []; // clicks just made
    this.hoveredId = "";
    this.masksAreShown = true;
    this.size = [1, 1]; // of the image, width and height
    this.zoom = 1;
    this.centre = [0.5, 0.5]; // of the view, in parts of the image
    this.waiting = [];
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  /** Shows a picture of an image of this size; returns once it is on the screen. */
  show(picture, size) {
    this.picture?.close();
    this.picture = picture;
    if (String(size) !== String(this.size)) {
      this.size = size;
      document.documentElement.style.setProperty("--aspect", size[0] / size[1]);
      this.fit();
    }
    return this.redraw();
  }

  fit() {
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.redraw();
  }

  /** CSS pixels for one pixel of the image, and where the image's top left corner is. */
  placement() {
    const { clientWidth, clientHeight } = this.canvas;
    const [width, height] = this.size;
    const scale = Math.min(clientWidth / width, clientHeight / height) * this.zoom;
    const left = clientWidth / 2 - this.centre[0] * width * scale;
    const top = clientHeight / 2 - this.centre[1] * height * scale;
    return { scale, left, top };
  }

  /** Image pixels (edges: the first pixel is from 0 to 1) of a place on the page. */
  toImage(clientX, clientY) {
    const bounds = this.canvas.getBoundingClientRect();
    const { scale, left, top } = this.placement();
    return [(clientX - bounds.left - left) / scale, (clientY - bounds.top - top) / scale];
  }

  isInside([x, y]) {
    return this.picture !== null && x >= 0 && y >= 0 && x < this.size[0] && y < this.size[1];
  }

  /** Zooms so that what is at a place stays there. */
  zoomAt(clientX, clientY, factor) {
    const before = this.toImage(clientX, clientY);
    const fitted = this.placement().scale / this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, SMALLEST_ZOOM), LARGEST_SCALE / fitted);
    const after = this.toImage(clientX, clientY);
    this.move(before[0] - after[0], before[1] - after[1]);
  }

  /** Moves the view by pixels of the image, but not beyond it. */
  move(dx, dy) {
    const [x, y] = [this.centre[0] + dx / this.size[0], this.centre[1] + dy / this.size[1]];
    const { clientWidth, clientHeight } = this.canvas;
    const { scale } = this.placement();
    const within = (value, shown) => Math.min(Math.max(value, Math.min(0.5, shown / 2)), Math.max(0.5, 1 - shown / 2));
    this.centre = [within(x, clientWidth / (this.size[0] * scale)), within(y, clientHeight / (this.size[1] * scale))];
    this.redraw();
  }

  mark(kind, x, y) {
    this.marks.push({ kind, x, y, until: performance.now() + MARK_MS });
    this.redraw();
  }

  /** Draws at the next chance; returns a promise of that. Not kept while the page is hidden, which is meant. */
  redraw() {
    return new Promise((resolve) => {
      if (this.waiting.push(resolve) === 1) requestAnimationFrame(() => this.draw());
    });
  }

  draw() {
    const resolves = this.waiting;
    this.waiting = [];
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight].map((css) => Math.round(css * ratio));
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, width, height);
    if (this.picture) this.drawImage(ratio);
    this.onDrawn();
    for (const resolve of resolves) resolve();
  }

  drawImage(ratio) {
    const { scale, left, top } = this.placement();
    const context = this.context;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, left * ratio, top * ratio);
    context.imageSmoothingEnabled = scale * ratio < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, 0, 0, ...this.size);
    context.imageSmoothingEnabled = scale * ratio < 1; // a mask is never blurred, only made smaller
    const line = Math.max(1, Math.round(OUTLINE_CSS / scale));
    if (this.masksAreShown) this.masks?.draw(context, this.hoveredId, line);
    this.preview?.draw(context, "", line);
    this.drawBox(scale);
    this.drawMarks(scale);
  }

  drawBox(scale) {
    if (!this.box) return;
    const [x0, y0, x1, y1] = this.box;
    this.context.lineWidth = 2 / scale;
    this.context.strokeStyle = COLOURS.foreground;
    this.context.fillStyle = "rgb(40 220 40 / .12)";
    this.context.fillRect(x0, y0, x1 - x0, y1 - y0);
    this.context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }

  drawMarks(scale) {
    const now = performance.now();
    this.marks = this.marks.filter((mark) => mark.until > now);
    for (const mark of this.marks) {
      this.context.globalAlpha = Math.min(1, (mark.until - now) / 400);
      this.disc(mark, 7 / scale, "#fff");
      this.disc(mark, 5 / scale, COLOURS[mark.kind]);
    }
    this.context.globalAlpha = 1;
    if (this.marks.length) this.redraw();
  }

  disc({ x, y }, radius, colour) {
    this.context.fillStyle = colour;
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.context.fill();
  }
}
