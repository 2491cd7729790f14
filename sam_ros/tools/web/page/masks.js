// The masks of one frame, drawn in the image's own pixels so that they stay crisp at any zoom.

import { newCanvas, pixelsOf } from "./pictures.js";

const FILL = 0.42;
const FILL_HOVERED = 0.66;
const FILL_OTHERS = 0.24; // while another object is hovered

/** 32 bits of RGBA in memory order, for machines that put the low byte first, as all that run browsers do. */
function rgba([red, green, blue], opacity) {
  return ((Math.round(255 * opacity) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Label k of the server's PNG is objects[k - 1]; grey up to 255, else low byte red and high byte green. */
export async function readLabels(bytes) {
  const { data, width, height } = await pixelsOf(bytes);
  const labels = new Uint16Array(width * height);
  let isGrey = true;
  for (let i = 0; i < data.length && isGrey; i += 4) isGrey = data[i] === data[i + 2];
  for (let i = 0, j = 0; i < labels.length; i += 1, j += 4) {
    labels[i] = isGrey ? data[j] : data[j] | (data[j + 1] << 8);
  }
  return { labels, width, height };
}

export class Masks {
  constructor({ labels, width, height }, objects) {
    this.labels = labels;
    this.width = width;
    this.height = height;
    this.objects = objects;
    this.bounds = bounds(objects, width, height);
    this.canvas = newCanvas(Math.max(1, this.bounds.x1 - this.bounds.x0), Math.max(1, this.bounds.y1 - this.bounds.y0));
    this.look = "";
  }

  /** The object at a pixel, or undefined. */
  at(x, y) {
    const inside = x >= 0 && y >= 0 && x < this.width && y < this.height;
    return inside ? this.objects[this.labels[Math.floor(y) * this.width + Math.floor(x)] - 1] : undefined;
  }

  /** Draws with a context whose unit is an image pixel; outlines are ``line`` pixels of the image wide. */
  draw(context, hoveredId, line) {
    const look = `${hoveredId}|${line}`;
    if (look !== this.look) this.paint(hoveredId, line);
    this.look = look;
    context.drawImage(this.canvas, this.bounds.x0, this.bounds.y0);
  }

  paint(hoveredId, line) {
    const { x0, y0, x1, y1 } = this.bounds;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(this.canvas.width, this.canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const { fills, edges } = this.palette(hoveredId);
    for (let y = y0, i = 0; y < y1; y += 1) {
      for (let x = x0; x < x1; x += 1, i += 1) {
        const label = this.labels[y * this.width + x];
        if (label) pixels[i] = this.isEdge(x, y, label, line) ? edges[label] : fills[label];
      }
    }
    context.putImageData(image, 0, 0);
  }

  palette(hoveredId) {
    const isHovering = hoveredId !== "" && this.objects.some((object) => object.id === hoveredId);
    const opacity = (object) => (!isHovering ? FILL : object.id === hoveredId ? FILL_HOVERED : FILL_OTHERS);
    const fills = [0, ...this.objects.map((object) => rgba(object.colour, opacity(object)))];
    const edges = [0, ...this.objects.map((object) => rgba(object.colour, 1))];
    return { fills: Uint32Array.from(fills), edges: Uint32Array.from(edges) };
  }

  isEdge(x, y, label, line) {
    const { labels, width, height } = this;
    const i = y * width + x;
    return (
      (x >= line && labels[i - line] !== label) ||
      (x + line < width && labels[i + line] !== label) ||
      (y >= line && labels[i - line * width] !== label) ||
      (y + line < height && labels[i + line * width] !== label)
    );
  }
}

/** The pixels that any object covers: nothing else has to be painted. */
function bounds(objects, width, height) {
  const boxes = objects.map((object) => object.box);
  const edge = (k, pick, start) => boxes.reduce((found, box) => pick(found, box[k]), start);
  return {
    x0: Math.max(0, Math.floor(edge(0, Math.min, width))),
    y0: Math.max(0, Math.floor(edge(1, Math.min, height))),
    x1: Math.min(width, Math.ceil(edge(2, Math.max, 0))),
    y1: Math.min(height, Math.ceil(edge(3, Math.max, 0))),
  };
}
