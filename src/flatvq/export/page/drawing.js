// Pixels on canvases.

// Colours of the error, from none to the largest: dark, violet, orange, light yellow.
const RAMP = [[10, 10, 28], [66, 28, 110], [150, 44, 96], [222, 90, 48], [250, 166, 44], [253, 246, 190]];
/** The error, in levels of 255, that gets the last colour. */
export const LARGEST_ERROR = 32;

function rampColour(share) {
  const place = Math.min(1, share) * (RAMP.length - 1);
  const index = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[index].map((low, channel) => low + (place - index) * (RAMP[index + 1][channel] - low));
}

function draw(canvas, width, height, colourOf) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    image.data.set(colourOf(pixel), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  canvas.classList.toggle("coarse", width <= 128);
}

/** Draw pixels of one or three channels. */
export function drawPixels(canvas, { width, height, channels, data }) {
  const colourOf =
    channels === 1
      ? (pixel) => [data[pixel], data[pixel], data[pixel]]
      : (pixel) => data.subarray(3 * pixel, 3 * pixel + 3);
  draw(canvas, width, height, colourOf);
}

/** Draw errors in levels of 255. */
export function drawErrors(canvas, errors, width, height) {
  draw(canvas, width, height, (pixel) => rampColour(errors[pixel] / LARGEST_ERROR));
}

/** Draw the colours of the codes of a level: planes of red, green and blue in [0, 1]. */
export function drawColours(canvas, { planes, shape: [height, width] }) {
  const cells = height * width;
  draw(canvas, width, height, (cell) => [0, 1, 2].map((channel) => 255 * planes[channel * cells + cell]));
}

/** Draw the scale of the errors. */
export function drawRamp(canvas) {
  draw(canvas, canvas.width, 1, (place) => rampColour(place / (canvas.width - 1)));
}

/** Return a test chart as a file: colours, edges, lines of several widths, and text. */
export function testChart() {
  const side = 768;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, side, side);
  ["#0b3d6b", "#3f8fc9", "#f3d9a4", "#d9643a"].forEach((colour, place) => sky.addColorStop(place / 3, colour));
  context.fillStyle = sky;
  context.fillRect(0, 0, side, side);
  for (let place = 0; place < 12; place++) {
    context.fillStyle = `hsl(${30 * place} 75% 55%)`;
    context.fillRect(48 + 56 * place, 48, 56, 96);
    context.fillStyle = `hsl(0 0% ${(100 * place) / 11}%)`;
    context.fillRect(48 + 56 * place, 144, 56, 48);
  }
  context.fillStyle = "#f7f4ec";
  context.beginPath();
  context.arc(230, 430, 150, 0, 2 * Math.PI);
  context.fill();
  context.strokeStyle = context.fillStyle = "#14202b";
  for (let ray = 0; ray < 48; ray++) {
    const angle = (Math.PI * ray) / 24;
    context.lineWidth = 1 + (ray % 4) * 2;
    context.beginPath();
    context.moveTo(230 + 24 * Math.cos(angle), 430 + 24 * Math.sin(angle));
    context.lineTo(230 + 140 * Math.cos(angle), 430 + 140 * Math.sin(angle));
    context.stroke();
  }
  [40, 32, 24, 16].forEach((size, line) => {
    context.font = `600 ${size}px sans-serif`;
    context.fillText("vector quantized", 410, 320 + 72 * line);
  });
  for (let line = 0; line < 40; line++) context.fillRect(48 + line * (4 + line / 4), 640, 1 + line / 8, 90);
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(new File([blob], "test chart", { type: "image/png" })), "image/png");
  });
}
