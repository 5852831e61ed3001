// One arm: its requests to the worker, and its card and row on the page.
import { bits, errors, levelBits, psnr } from "./measures.js";
import { fromPlanes, planes, withChannels } from "./picture.js";
import { drawColours, drawErrors, drawPixels } from "./drawing.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const decimals = new Intl.NumberFormat("en", {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
  signDisplay: "negative", // no -0.00
});
const rate = new Intl.NumberFormat("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

export class ArmView {
  /** number: its place in the page. description: its entry in the data of the page. ask: a request to the worker. */
  constructor(number, description, ask, onError) {
    Object.assign(this, { number, description, ask, onError });
    this.card = document.getElementById(`arm-card-${number}`);
    this.row = document.getElementById(`row-${number}`);
    this.switches = [...this.card.querySelectorAll(".switch input")];
    this.switches.forEach((input) => input.addEventListener("change", () => this.redecode()));
    this.flip = this.card.querySelector(".flip");
    this.flip.addEventListener("click", () => this.showOriginal(!this.showsOriginal));
    this.screen = this.card.querySelector(".reconstruction canvas");
    this.screen.addEventListener("click", () => this.showOriginal(!this.showsOriginal));
    this.card.querySelector(".save-picture").addEventListener("click", () => this.savePicture());
    this.card.querySelector(".save-codes").addEventListener("click", () => this.saveCodes());
    this.showsOriginal = false;
  }

  /** Encode and decode a square, { width, height, data }, and fill the card and the row. */
  async show(square, stillWanted) {
    const { channels, levels } = this.description;
    const original = withChannels(square, channels);
    const { width, height } = square;
    const request = { arm: this.number, planes: planes(original), channels, width, height };
    const codes = await this.ask("encode", request);
    if (!stillWanted()) return;
    const all = levels.map(() => true);
    const { pixels, colours } = await this.decoded(codes, all, original);
    if (!stillWanted()) return;
    Object.assign(this, { original, codes });
    this.psnr = psnr(pixels, original);
    this.switches.forEach((input) => (input.checked = true));
    this.markSwitches();
    this.draw(pixels, all);
    colours.forEach((colour, level) => drawColours(this.card.querySelectorAll(".codes canvas")[level], colour));
    this.fillNumbers();
    await this.measureLevels(stillWanted);
  }

  async decoded(codes, kept, original) {
    const { planes: floats, colours } = await this.ask("decode", { arm: this.number, levels: codes, kept });
    return { pixels: fromPlanes(floats, original.width, original.height, original.channels), colours };
  }

  /** Draw a reconstruction from the kept levels, and its error. */
  draw(pixels, kept) {
    this.pixels = pixels;
    this.showOriginal(false);
    const value = decimals.format(psnr(pixels, this.original));
    const off = kept.flatMap((isOn, level) => (isOn ? [] : [level]));
    const without = off.length ? ` without level ${off.join(" and ")}` : "";
    this.card.querySelector(".now").textContent = `${value} dB${without}`;
    const map = this.card.querySelector(".error canvas");
    const values = errors(pixels, this.original);
    drawErrors(map, values, pixels.width, pixels.height);
    const mean = values.reduce((sum, error) => sum + error, 0) / values.length;
    map.setAttribute("aria-label", `Absolute error of ${this.description.name}, ${decimals.format(mean)} of 255 on average`);
  }

  showOriginal(isOriginal) {
    if (!this.pixels) return;
    this.showsOriginal = isOriginal;
    this.flip.setAttribute("aria-pressed", String(isOriginal));
    drawPixels(this.screen, isOriginal ? this.original : this.pixels);
    const caption = isOriginal ? "Original" : "Reconstruction";
    this.screen.setAttribute("aria-label", isOriginal ? caption : `${caption} by ${this.description.name}`);
    this.screen.nextElementSibling.textContent = caption;
  }

  fillNumbers() {
    const { levels } = this.description;
    const { width, height } = this.original;
    const total = bits(levels, width, height);
    const used = this.codes.map(({ indices }) => new Set(indices).size);
    fill(this.row, {
      psnr: decimals.format(this.psnr),
      bpp: rate.format(total / width / height),
      bits: whole.format(total),
      bytes: whole.format(Math.ceil(total / 8)),
      used: used.map(whole.format).join(" + "),
    });
    this.card.querySelectorAll(".levels tbody tr").forEach((row, number) => {
      const level = levels[number];
      const own = levelBits(level, width, height);
      fill(row, {
        grid: `${height / level.factor} × ${width / level.factor}`,
        used: whole.format(used[number]),
        bits: whole.format(own),
        share: total ? percent.format(own / total) : "–",
      });
    });
  }

  /** Measure the PSNR without each level. */
  async measureLevels(stillWanted) {
    const rows = this.card.querySelectorAll(".levels tbody tr");
    if (this.codes.length === 1) return;
    for (const off of this.codes.keys()) {
      const kept = this.codes.map((_, level) => level !== off);
      const { pixels } = await this.decoded(this.codes, kept, this.original);
      if (!stillWanted()) return;
      const without = psnr(pixels, this.original);
      fill(rows[off], { without: decimals.format(without), loss: decimals.format(this.psnr - without) });
    }
  }

  /** Decode with the levels that are switched on. */
  async redecode() {
    const kept = this.switches.map((input) => input.checked);
    this.markSwitches();
    if (!this.codes) return;
    const { codes, original } = this;
    try {
      const { pixels } = await this.decoded(codes, kept, original);
      const isCurrent = this.codes === codes && this.switches.every((input, level) => input.checked === kept[level]);
      if (isCurrent) this.draw(pixels, kept);
    } catch (error) {
      this.onError(error);
    }
  }

  markSwitches() {
    this.switches.forEach((input) => input.closest("tr").classList.toggle("off", !input.checked));
  }

  savePicture() {
    const canvas = document.createElement("canvas");
    drawPixels(canvas, this.pixels);
    canvas.toBlob((blob) => save(blob, `${this.description.name}.png`), "image/png");
  }

  saveCodes() {
    const { width, height } = this.original;
    const levels = this.codes.map(({ indices, shape }) => ({ shape, indices: [...indices] }));
    const text = JSON.stringify({ tokenizer: this.description.name, id: this.description.id, width, height, levels });
    save(new Blob([text], { type: "application/json" }), `${this.description.name}.json`);
  }
}

function fill(element, values) {
  for (const [name, value] of Object.entries(values)) element.querySelector(`.${name}`).textContent = value;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
