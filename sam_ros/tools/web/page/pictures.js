// Pictures that came from the server: decoded, and their pixels read exactly.

const EXACT = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

/** The JPEG as something that can be drawn; the caller closes it. */
export function decodedJpeg(bytes) {
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}

/** A PNG's pixels, RGBA, as ImageData. */
export async function pixelsOf(bytes) {
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), EXACT);
  const canvas = newCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

export function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}
