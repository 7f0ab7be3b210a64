// The page: an image comes in, the network answers, and the answer is shown.

import { decode, fromCanvas, show } from "./images.js";
import { pad } from "./pad.js";
import { fit } from "./preprocess.js";
import { covered, shuffled } from "./shuffle.js";

const SHOWN = 5;
const element = (id) => document.getElementById(id);
const about = await (await fetch(new URL("./model.json", import.meta.url))).json();
const patch = about.patch_size;
let network = null;
let image = null; // fitted, as the network takes it
let asked = 0; // counts what was asked, so that an answer that comes late is not shown

introduce();
const drawing = pad(element("pad"), () => give(fromCanvas(element("pad"))));
element("clear").addEventListener("click", () => { drawing.clear(); give(fromCanvas(element("pad"))); });
for (const id of ["file", "photo"]) {
  element(id).addEventListener("change", ({ target }) => { if (target.files[0]) read(target.files[0]); target.value = ""; });
}
for (const id of ["what", "share"]) element(id).addEventListener("input", () => { element("occlusion").hidden = true; answer(); });
element("occlude").addEventListener("click", occlude);
document.addEventListener("paste", ({ clipboardData }) => { if (clipboardData.files[0]) read(clipboardData.files[0]); });
document.addEventListener("dragover", (event) => { event.preventDefault(); element("drop").classList.add("over"); });
document.addEventListener("dragleave", () => element("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) read(file);
  else complain("That was no file. Drop an image file.");
});

try {
  const started = performance.now();
  const { loadNetwork, probabilities } = await import("./network.js");
  network = { ...(await loadNetwork(about, new URLSearchParams(location.search).get("on"))), probabilities };
  element("state").textContent = `Ready, ${((performance.now() - started) / 1000).toFixed(1)} s after the page: `
    + `${network.backend}. ${network.note ?? ""}`;
  document.documentElement.dataset.ready = "yes";
  window.allmlp = { logits: async (given) => (await network.logits([fit(given, about.preprocess).rgb]))[0], decode, fit, about };
  answer();
} catch (error) {
  element("state").textContent = `The network cannot run here: ${error.message}`;
  document.documentElement.dataset.ready = "no";
}

function introduce() {
  const [height, width] = about.preprocess.image_size;
  document.title = element("title").textContent = about.name;
  element("about").textContent = `${about.description} It sees ${height} x ${width} pixels in ${about.grid[0]} x ${about.grid[1]} `
    + `patches and knows ${about.num_classes} classes. It runs here, in your browser: no image leaves this machine.`;
  element("versions").textContent = `allmlp ${about.allmlp}; model ${about.digest ?? "of no file"}`;
  for (const { file, title } of about.examples) {
    const picture = Object.assign(new Image(), { src: file, alt: title });
    const button = Object.assign(document.createElement("button"), { type: "button", title });
    button.append(picture);
    button.addEventListener("click", async () => read(await (await fetch(file)).blob()));
    element("examples").append(button);
  }
  element("examples-title").hidden = about.examples.length === 0;
  element("learned").hidden = about.pictures.length === 0;
  for (const { file, title, caption } of about.pictures) {
    const figure = document.createElement("figure");
    figure.append(Object.assign(new Image(), { src: file, alt: title, loading: "lazy" }),
      Object.assign(document.createElement("figcaption"), { textContent: caption }));
    element("pictures").append(figure);
  }
}

function complain(text) {
  element("trouble").textContent = text;
  if (text) element("trouble").scrollIntoView({ block: "nearest" }); // a file may be dropped far below
}

async function read(blob) {
  complain("");
  try {
    give(await decode(blob));
  } catch (error) {
    complain(error.message);
  }
}

function give(raw) {
  image = fit(raw, about.preprocess);
  element("occlusion").hidden = true;
  answer();
}

function current() {
  return shuffled(image, patch, element("what").value, element("share").value / 100);
}

async function answer() {
  element("share-shown").textContent = `${element("share").value} %`;
  if (image === null) return;
  const here = current();
  show(element("seen"), here, patch);
  show(element("disorder"), here, patch);
  if (network === null) return;
  const number = ++asked;
  const started = performance.now();
  const [logits] = await network.logits([here.rgb]);
  if (number !== asked) return;
  element("time").textContent = `${(performance.now() - started).toFixed(1)} ms`;
  element("occlude").disabled = false;
  const shares = network.probabilities(logits, about.output);
  const order = shares.map((_, k) => k).sort((a, b) => shares[b] - shares[a] || a - b).slice(0, SHOWN);
  element("shuffled").hidden = false;
  element("shuffled-says").textContent = `${className(order[0])}, ${percent(shares[order[0]])}`;
  element("classes").replaceChildren(...order.map((k) => {
    const name = className(k);
    const line = Object.assign(document.createElement("div"), { className: "name" });
    line.append(Object.assign(document.createElement("span"), { textContent: name }),
      Object.assign(document.createElement("span"), { textContent: percent(shares[k]) }));
    const item = document.createElement("li");
    item.append(line, Object.assign(document.createElement("meter"), { min: 0, max: 1, value: shares[k], ariaLabel: name }));
    return item;
  }));
}

const className = (k) => about.classes?.[k] ?? `class ${k}`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function occlude() {
  const here = current();
  const button = element("occlude");
  button.disabled = true;
  const images = [here.rgb, ...covered(here, patch)];
  const logits = await network.logits(images, (done, all) => { button.textContent = `${done} of ${all} …`; });
  const shares = logits.map((row) => network.probabilities(row, about.output));
  const first = shares[0].indexOf(Math.max(...shares[0]));
  const falls = shares.slice(1).map((row) => shares[0][first] - row[first]);
  const most = Math.max(...falls.map(Math.abs), 1e-9);
  const context = show(element("heat"), here, patch, false);
  const [rows, columns] = about.grid;
  const [height, width] = [context.canvas.height / rows, context.canvas.width / columns];
  falls.forEach((fall, k) => {
    context.fillStyle = fall > 0 ? `rgb(220 50 32 / ${0.75 * (fall / most)})` : `rgb(0 90 181 / ${0.75 * (-fall / most)})`;
    context.fillRect((k % columns) * width, Math.floor(k / columns) * height, width, height);
  });
  element("heat-caption").textContent = `Red: without this patch, "${className(first)}" is less likely; `
    + `blue: more. Full colour is ${(100 * most).toFixed(1)} points.`;
  element("occlusion").hidden = false;
  button.textContent = "cover every patch in turn";
  button.disabled = false;
}
