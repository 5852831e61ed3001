// The page: it starts the worker, takes pictures, and shows them with every arm.
import { fromBase64, gunzipped } from "./bytes.js";
import { centreCrop } from "./resample.js";
import { altersPixels, pixelsOf } from "./picture.js";
import { drawPixels, drawRamp, testChart } from "./drawing.js";
import { ArmView, decimals } from "./arms.js";

const element = (id) => document.getElementById(id);
const page = JSON.parse(element("page-data").textContent);
const preferred = 256;

let views = [];
let picture; // { name, pixels }
let taken = 0; // files, in the order in which they were chosen
let latest = 0; // the one that is shown
let run = 0; // increases with every picture and size, so that answers for earlier ones are dropped

const waiting = new Map(); // requests without an answer yet
let requests = 0;
let failure; // of the worker as a whole
const worker = startWorker();

function startWorker() {
  const url = URL.createObjectURL(new Blob([element("worker-source").textContent], { type: "text/javascript" }));
  // Not a worker of type "module": Chromium does not start one from a page that is a local file.
  const started = new Worker(url, { name: "flatvq" });
  started.onmessage = ({ data: { id, result, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  };
  started.onerror = (event) => {
    failure = new Error(event.message || "The worker of this page does not start.");
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  };
  return started;
}

function ask(request, values, transferred = []) {
  if (failure) return Promise.reject(failure);
  return new Promise((resolve, reject) => {
    const id = ++requests;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, request, ...values }, transferred);
  });
}

/** Return the unpacked content of a script element, and remove the element. */
async function payload(id) {
  const script = element(id);
  const bytes = await gunzipped(fromBase64(script.textContent));
  script.remove();
  return bytes;
}

function say(text, share) {
  element("status").textContent = text;
  element("progress").classList.toggle("busy", share !== undefined);
  element("progress").value = share ?? 0;
}

function report(error) {
  const problem = element("problem");
  problem.textContent = error?.message ?? String(error);
  problem.hidden = false;
}

async function start() {
  const program = await payload("ort-program");
  const script = await payload("ort-script");
  await ask("start", { program, script }, [program.buffer, script.buffer]);
  for (const [arm, { name, sizes, tensors, file }] of page.arms.entries()) {
    say(`Loading ${name} …`, (arm + 1) / (page.arms.length + 1));
    const content = await payload(`arm-${arm}`);
    await ask("load", { arm, content, sizes, tensors, file }, [content.buffer]);
  }
  views = page.arms.map((description, number) => new ArmView(number, description, ask, report));
  for (const id of ["choose", "photograph", "chart", "size"]) element(id).disabled = false;
  say("Ready. Choose a picture.");
}

function offerSizes() {
  const { crop, resize } = page.trained;
  const options = page.sides.map((side) => ({ crop: side, resize: side, text: `${side} × ${side} pixels` }));
  if (crop && crop % page.factor === 0) {
    const text = `${crop} × ${crop} pixels, as in training`;
    options.unshift({ crop, resize, text: resize > crop ? `${text} (the middle of the picture)` : text });
  }
  const select = element("size");
  for (const { text, ...size } of options) select.add(new Option(text, JSON.stringify(size)));
  const sides = page.sides.filter((side) => side <= preferred);
  const chosen = Math.max(...(sides.length ? sides : page.sides));
  select.selectedIndex = options.findLastIndex((option) => option.crop === chosen);
}

async function take(file) {
  if (!file || !views.length) return;
  const own = ++taken;
  element("problem").hidden = true;
  try {
    const pixels = await pixelsOf(file);
    if (own < latest) return; // a later file was decoded sooner
    latest = own;
    picture = { name: file.name || "pasted picture", pixels };
    await show();
  } catch (error) {
    report(error);
    say(picture ? `Still showing ${picture.name}.` : "Choose another picture.");
  }
}

async function show() {
  if (!picture) return;
  const own = ++run;
  const stillWanted = () => own === run;
  const { crop, resize } = JSON.parse(element("size").value);
  const square = { ...centreCrop(picture.pixels, crop, resize), channels: 3 };
  showSquare(square);
  const begin = performance.now();
  for (const [number, view] of views.entries()) {
    say(`${view.description.name}: encoding and decoding …`, (number + 0.5) / views.length);
    await view.show(square, stillWanted);
    if (!stillWanted()) return;
    element("results").hidden = false;
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const results = views.map((view) => `${view.description.name} ${decimals.format(view.psnr)} dB`).join(", ");
  element("sentence").textContent = sentence();
  say(`Done in ${seconds} s: ${results}.`);
}

function showSquare(square) {
  const canvas = element("original");
  drawPixels(canvas, square);
  canvas.hidden = false;
  canvas.setAttribute("aria-label", `The square of ${picture.name} that is encoded`);
  element("invitation").hidden = true;
  element("drop").classList.add("filled");
  const { width, height } = picture.pixels;
  const notes = [`${picture.name}, ${width} × ${height} pixels.`];
  if (Math.min(width, height) < square.width) notes.push("It is smaller than the square, and was enlarged.");
  if (altersPixels()) notes.push("This browser alters the pixels that pages read, so indices differ from those of flatvq.");
  element("file-note").textContent = notes.join(" ");
}

/** Return what this picture says about the arms. */
function sentence() {
  if (views.length === 1) return `${views[0].description.name} reconstructs this picture at ${decimals.format(views[0].psnr)} dB.`;
  const [first, second] = [...views].sort((a, b) => b.psnr - a.psnr);
  const difference = decimals.format(first.psnr - second.psnr);
  if (difference === "0.00") return `On this picture ${first.description.name} and ${second.description.name} have the same PSNR, ${decimals.format(first.psnr)} dB. It is one picture of many: the verdict above does not depend on it.`;
  return `On this picture ${first.description.name} is best, ${difference} dB above ${second.description.name}. It is one picture of many: the verdict above does not depend on it.`;
}

function listen() {
  element("choose").addEventListener("click", () => element("file").click());
  element("photograph").addEventListener("click", () => element("camera").click());
  element("drop").addEventListener("click", () => element("file").click());
  element("chart").addEventListener("click", async () => take(await testChart()));
  for (const id of ["file", "camera"]) {
    element(id).addEventListener("change", ({ target }) => {
      take(target.files[0]);
      target.value = ""; // so that the same file can be chosen again
    });
  }
  element("size").addEventListener("change", () => show().catch(report));
  document.addEventListener("paste", ({ clipboardData }) => take(clipboardData.files[0]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    element("drop").classList.add("over");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) element("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    element("drop").classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

drawRamp(element("ramp"));
offerSizes();
listen();
start().catch((error) => {
  say("The page cannot compute in this browser.");
  report(error);
});
