// The bicubic filter of Pillow, in its integer arithmetic: the same pixels as `Image.resize(size, BICUBIC)`.

const PRECISION = 22;

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

/** Return, for each output pixel, the first input pixel that it reads and the integer weights. */
function coefficients(inputs, outputs) {
  const scale = inputs / outputs;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: outputs }, (_, output) => {
    const centre = (output + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inputs, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let input = first; input < end; input++) weights.push(bicubic((input - centre + 0.5) / stretch));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const integers = weights.map((weight) => {
      const scaled = (weight / total) * 2 ** PRECISION;
      return Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
    return { first, weights: Int32Array.from(integers) };
  });
}

/** Filter along one axis. `step` and `line` are the distances of neighbours along and across the axis. */
function filtered(source, target, taps, lines, step, line, targetStep, targetLine) {
  const half = 2 ** (PRECISION - 1);
  for (let row = 0; row < lines; row++) {
    for (let output = 0; output < taps.length; output++) {
      const { first, weights } = taps[output];
      for (let channel = 0; channel < 3; channel++) {
        let sum = half;
        let place = row * line + first * step + channel;
        for (let tap = 0; tap < weights.length; tap++, place += step) sum += source[place] * weights[tap];
        target[row * targetLine + output * targetStep + channel] = sum >> PRECISION;
      }
    }
  }
}

/** Scale RGB pixels, { width, height, data }, to another size. */
export function resized(image, width, height) {
  let { data } = image;
  if (width !== image.width) {
    const narrow = new Uint8ClampedArray(3 * width * image.height);
    const taps = coefficients(image.width, width);
    filtered(data, narrow, taps, image.height, 3, 3 * image.width, 3, 3 * width);
    data = narrow;
  }
  if (height !== image.height) {
    const flat = new Uint8ClampedArray(3 * width * height);
    const taps = coefficients(image.height, height);
    filtered(data, flat, taps, width, 3 * width, 3, 3 * width, 3);
    data = flat;
  }
  return { width, height, data };
}

/** Round to the nearest integer, and halves to even, as Python does. */
export function rounded(value) {
  const below = Math.floor(value);
  const fraction = value - below;
  if (fraction !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

/** Scale a picture so that its shorter side is `resize` (0 keeps it) or at least `crop`, and cut the centre. */
export function centreCrop(image, crop, resize) {
  const shorter = Math.min(image.width, image.height);
  const side = Math.max(resize || shorter, crop);
  const width = rounded((image.width * side) / shorter);
  const height = rounded((image.height * side) / shorter);
  const scaled = resized(image, width, height);
  const left = Math.floor((width - crop) / 2);
  const top = Math.floor((height - crop) / 2);
  const data = new Uint8ClampedArray(3 * crop * crop);
  for (let row = 0; row < crop; row++) {
    const start = 3 * ((top + row) * width + left);
    data.set(scaled.data.subarray(start, start + 3 * crop), 3 * crop * row);
  }
  return { width: crop, height: crop, data };
}
