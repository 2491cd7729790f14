// The three masks that the last click could have meant, as thumbnails to choose from.

import { Masks } from "./masks.js";
import { newCanvas, pixelsOf } from "./pictures.js";

const THUMBNAIL = { width: 160, height: 120 };
const MARGIN = 0.2; // around the masks, in parts of their box
const SMALLEST_CROP = 48; // pixels of the image
const COLOUR = [86, 180, 233];

/** The three masks as (H * W) arrays of 0 and 255, best first. */
export async function readCandidates(bytes) {
  const { data, width, height } = await pixelsOf(bytes);
  const masks = [0, 1, 2].map((channel) => {
    const mask = new Uint8Array(width * height);
    for (let i = 0; i < mask.length; i += 1) mask[i] = data[4 * i + channel];
    return mask;
  });
  return { masks, width, height };
}

/** One of them as something that a View draws. */
export function previewOf({ masks, width, height }, index) {
  const labels = Uint16Array.from(masks[index], (value) => (value ? 1 : 0));
  const object = { id: "", class_id: "", iou: [], box: [0, 0, width, height], area: 0, colour: COLOUR };
  return new Masks({ labels, width, height }, [object]);
}

/** A canvas with a mask on the part of the picture around all three; the picture may be missing. */
export function thumbnail(candidates, index, picture) {
  const canvas = newCanvas(THUMBNAIL.width, THUMBNAIL.height);
  const context = canvas.getContext("2d");
  const crop = cropAround(candidates);
  const scale = canvas.width / crop.width;
  context.fillStyle = "#0d0f12";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.setTransform(scale, 0, 0, scale, -crop.x * scale, -crop.y * scale);
  if (picture) context.drawImage(picture, 0, 0, candidates.width, candidates.height);
  context.fillStyle = "rgb(13 15 18 / .45)";
  context.fillRect(0, 0, candidates.width, candidates.height);
  previewOf(candidates, index).draw(context, "", Math.max(1, Math.round(2 / scale)));
  return canvas;
}

function cropAround({ masks, width, height }) {
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      if (!(masks[0][i] || masks[1][i] || masks[2][i])) continue;
      [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x + 1), Math.max(y1, y + 1)];
    }
  }
  if (x0 >= x1) [x0, y0, x1, y1] = [0, 0, width, height];
  const aspect = THUMBNAIL.width / THUMBNAIL.height;
  const wanted = Math.max(x1 - x0, (y1 - y0) * aspect, SMALLEST_CROP) * (1 + MARGIN);
  const x = inside((x0 + x1 - wanted) / 2, wanted, width);
  return { x, y: inside((y0 + y1 - wanted / aspect) / 2, wanted / aspect, height), width: wanted };
}

/** Where a stretch of this length begins so that it lies on the picture as far as it can. */
function inside(start, length, whole) {
  return length < whole ? Math.min(Math.max(start, 0), whole - length) : (whole - length) / 2;
}
