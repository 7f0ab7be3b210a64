// From what a person gives, a file or a drawing, to bytes {rgb, height, width}; and back onto a canvas.

import { withoutAlpha } from "./preprocess.js";

const MOST_PIXELS = 50e6;

// Raises an Error whose message is for the person.
export async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error(`${blob.name ?? "This"}: not an image that this browser can read. Give a JPEG, PNG, WebP, GIF or BMP file.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    throw new Error(`${width} x ${height} pixels are more than the limit of ${MOST_PIXELS / 1e6} million. Make the image smaller first.`);
  }
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // what is transparent lies on white, as in Python
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return withoutAlpha(context.getImageData(0, 0, width, height));
}

export function fromCanvas(canvas) {
  return withoutAlpha(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height));
}

// Draws rgb of height x width pixels, every pixel `scale` times as large, with lines between patches. Returns the context.
export function show(canvas, { rgb, height, width }, [patchHeight, patchWidth], lines = true) {
  const scale = Math.max(1, Math.round(576 / Math.max(height, width)));
  canvas.width = width * scale;
  canvas.height = height * scale;
  const small = Object.assign(document.createElement("canvas"), { width, height });
  const pixels = new ImageData(width, height);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    pixels.data.set([rgb[from], rgb[from + 1], rgb[from + 2], 255], to);
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  if (lines) {
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--grid");
    for (let x = patchWidth; x < width; x += patchWidth) context.fillRect(x * scale - 1, 0, 2, canvas.height);
    for (let y = patchHeight; y < height; y += patchHeight) context.fillRect(0, y * scale - 1, canvas.width, 2);
  }
  return context;
}
