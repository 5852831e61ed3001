// The bicubic filter of Pillow, in its integer arithmetic: the same pixels as `Image.resize(size, BICUBIC)`.

const PRECISION = 22;

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

/** Return, for `count` output pixels from `start`, the first input pixel that each reads and the integer weights. */
function coefficients(inputs, outputs, start, count) {
  const scale = inputs / outputs;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: count }, (_, place) => {
    const centre = (start + place + 0.5) * scale;
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

/** Return taps that copy `count` pixels from `start`. */
function copies(start, count) {
  return Array.from({ length: count }, (_, place) => ({ first: start + place, weights: Int32Array.of(2 ** PRECISION) }));
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

/**
 * Scale RGB pixels, { width, height, data }, to another size, and cut out a square.
 *
 * Only the pixels of the square are computed: a long and narrow picture can have billions of others.
 */
function scaledSquare(image, width, height, left, top, side) {
  const across = width === image.width ? copies(left, side) : coefficients(image.width, width, left, side);
  const down = height === image.height ? copies(top, side) : coefficients(image.height, height, top, side);
  const from = down[0].first;
  const rows = down[side - 1].first + down[side - 1].weights.length - from;
  const narrow = new Uint8ClampedArray(3 * side * rows);
  const source = image.data.subarray(3 * image.width * from);
  filtered(source, narrow, across, rows, 3, 3 * image.width, 3, 3 * side);
  const square = new Uint8ClampedArray(3 * side * side);
  const taps = down.map(({ first, weights }) => ({ first: first - from, weights }));
  filtered(narrow, square, taps, side, 3 * side, 3, 3 * side, 3);
  return { width: side, height: side, data: square };
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
  const left = Math.floor((width - crop) / 2);
  const top = Math.floor((height - crop) / 2);
  return scaledSquare(image, width, height, left, top, crop);
}
