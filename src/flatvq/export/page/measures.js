/** Return the PSNR in dB of pixels against the original, both of 8 bits; at most 100, as in flatvq. */
export function psnr(pixels, original) {
  let sum = 0;
  for (let place = 0; place < pixels.data.length; place++) sum += (pixels.data[place] - original.data[place]) ** 2;
  const error = sum / pixels.data.length / 255 ** 2;
  return error === 0 ? 100 : Math.min(100, -10 * Math.log10(error));
}

/** Return the nominal bits of a level for a picture: the number of indices times log2 K. */
export function levelBits(level, width, height) {
  const cells = (width / level.factor) * (height / level.factor);
  return cells * level.indices * Math.log2(level.codebook_size);
}

/** Return the sum of the bits of all levels. */
export function bits(levels, width, height) {
  return levels.reduce((sum, level) => sum + levelBits(level, width, height), 0);
}

/** Return the absolute error of each pixel, the mean over its channels, in levels of 255. */
export function errors(pixels, original) {
  const { channels } = pixels;
  const result = new Float32Array(pixels.width * pixels.height);
  for (let pixel = 0; pixel < result.length; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      const place = channels * pixel + channel;
      result[pixel] += Math.abs(pixels.data[place] - original.data[place]) / channels;
    }
  }
  return result;
}
