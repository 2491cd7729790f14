// Pictures that came from the server: decoded, and their pixels read exactly.

const EXACT = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
const reader = newCanvas(1, 1).getContext("2d", { willReadFrequently: true }); // one for all: they can be large

/** The JPEG as something that can be drawn; the caller closes it. */
export function decodedJpeg(bytes) {
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}

/** A PNG's pixels, RGBA, as ImageData. */
export async function pixelsOf(bytes) {
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), EXACT);
  const { width, height } = bitmap;
  if (reader.canvas.width !== width || reader.canvas.height !== height) Object.assign(reader.canvas, { width, height });
  reader.drawImage(bitmap, 0, 0); // it is opaque: nothing of the one before is left
  bitmap.close();
  return reader.getImageData(0, 0, width, height);
}

export function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}
