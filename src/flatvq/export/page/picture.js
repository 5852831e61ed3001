// From a file to RGB pixels: upright, over white, without colour management.

// Larger pictures are decoded at a smaller size; phones refuse canvases of more pixels.
const LARGEST = 16_000_000;

/** Return the pixels of a file, { width, height, data } with three bytes for each pixel. */
export async function pixelsOf(file) {
  let bitmap; // upright, which is the default
  try {
    bitmap = await createImageBitmap(file, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name || "This file"} is not a picture that this browser can read.`);
  }
  const shrink = Math.min(1, Math.sqrt(LARGEST / (bitmap.width * bitmap.height)));
  const width = Math.max(1, Math.round(bitmap.width * shrink));
  const height = Math.max(1, Math.round(bitmap.height * shrink));
  const context = canvasOf(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return overWhite(context.getImageData(0, 0, width, height));
}

/** Whether this browser changes pixels that a page reads, as some do against fingerprinting. */
export function altersPixels() {
  const context = canvasOf(16, 16).getContext("2d", { willReadFrequently: true });
  const written = context.createImageData(16, 16);
  written.data.forEach((_, place) => (written.data[place] = place % 4 === 3 ? 255 : (place * 37) % 256));
  context.putImageData(written, 0, 0);
  const read = context.getImageData(0, 0, 16, 16);
  return read.data.some((value, place) => value !== written.data[place]);
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function overWhite({ width, height, data }) {
  const rgb = new Uint8ClampedArray(3 * width * height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const opacity = data[4 * pixel + 3] / 255;
    for (let channel = 0; channel < 3; channel++) {
      rgb[3 * pixel + channel] = data[4 * pixel + channel] * opacity + 255 * (1 - opacity);
    }
  }
  return { width, height, data: rgb };
}

/** Convert pixels to the channels of a model: 3, or 1 for luma in the fixed-point arithmetic of Pillow. */
export function withChannels({ width, height, data }, channels) {
  if (channels === 3) return { width, height, channels, data };
  const luma = new Uint8ClampedArray(width * height);
  for (let pixel = 0; pixel < luma.length; pixel++) {
    const place = 3 * pixel;
    luma[pixel] = (19595 * data[place] + 38470 * data[place + 1] + 7471 * data[place + 2] + 0x8000) >> 16;
  }
  return { width, height, channels, data: luma };
}

/** Return pixels as floats in [0, 1], one plane for each channel. */
export function planes({ width, height, channels, data }) {
  const floats = new Float32Array(channels * width * height);
  for (let channel = 0; channel < channels; channel++) {
    for (let pixel = 0; pixel < width * height; pixel++) {
      floats[channel * width * height + pixel] = data[channels * pixel + channel] / 255;
    }
  }
  return floats;
}

/** Return planes of floats in [0, 1] as pixels of 8 bits. */
export function fromPlanes(floats, width, height, channels) {
  const data = new Uint8ClampedArray(channels * width * height);
  for (let channel = 0; channel < channels; channel++) {
    for (let pixel = 0; pixel < width * height; pixel++) {
      // A clamped array rounds halves to even, as flatvq does.
      data[channels * pixel + channel] = Math.fround(floats[channel * width * height + pixel] * 255);
    }
  }
  return { width, height, channels, data };
}
