// The page: what comes from the server is shown, what a person does is sent with the stamp of what was seen.

import { previewOf, readCandidates, thumbnail } from "./candidates.js";
import { Connection } from "./connection.js";
import { Masks, readLabels } from "./masks.js";
import * as panel from "./panel.js";
import { decodedJpeg } from "./pictures.js";
import { Pointer } from "./pointer.js";
import { View } from "./view.js";

const SAY_AGAIN_MS = 5000; // the same complaint is made at most so often
const UNCERTAIN_MS = 30000; // a connection that was lost may have been dead for so long
const STALE = "Paused. This picture is stale: the node has dropped it, so resume";

const canvas = document.getElementById("canvas");
const tooltip = document.getElementById("tooltip");
const view = new View(canvas, tellDrawn);
const objectList = new panel.ObjectList({ hover, select, remove });

let shown = null; // header of the frame on the screen
let objects = []; // of the newest answer
let waiting = null; // the newest message that was not looked at yet
let later = null; // the newest message whose picture is to be shown once the present one may change
let isShowing = false;
let isPaused = false;
let isStale = false; // the paused frame was prompted on, and the node no longer had it
let isPressed = false; // a click or a box is being made: the picture stands still
let tool = "foreground";
let selectedId = "";
let pointerPlace = null; // of the pointer on the page, while it is over the canvas
let candidateIou = null; // { sec, nanosec, iou }: of the candidates that come with it, or came before
let candidates = null; // { masks, width, height, header, canvases, chosen }
let timesForgotten = 0; // the candidates: those that were still being read then are void too
let clicked = null; // { header, picture }: the frame of the last click, for the thumbnails
let asked = null; // { atMs, ids, header }: a prompt whose mask is awaited
let clickToMaskMs;
let status = null; // what the server said last; null while there is no connection
let lostWhy = null; // in words, while there is no connection
let drawnTimesMs = [];
let failedAtMs = -Infinity; // when it was last said that a picture could not be drawn

const momentOf = ({ sec, nanosec, frame_id }) => ({ sec, nanosec, frame_id });
const sameFrame = (a, b) => a && b && a.sec === b.sec && a.nanosec === b.nanosec;
const isFrozen = () => isPaused || isPressed;

// From the server.

const connection = new Connection(
  (header, parts) => {
    lostWhy = null;
    if (header.type === "frame") takeFrame({ header, parts });
    else if (header.type === "candidates") takeCandidates(header, parts);
    else if (header.type === "candidate_iou") takeCandidateIou(header);
    else if (header.type === "candidates_void") forgetCandidates();
    else if (header.type === "status") takeStatus(header);
    else if (header.type === "refused") takeRefusal(header);
    else if (header.type === "failed") panel.toast(header.reason, "bad");
    else if (header.type === "said") panel.toast(header.text, header.good ? "good" : "bad");
  },
  (why) => {
    status = null;
    lostWhy = why ? `No place for this page: ${why}` : "Connection lost, trying again";
    showState();
    tellUncertain();
  },
);

/** The newest frame wins: one that came before it is never drawn. */
async function takeFrame(message) {
  waiting = message;
  if (isShowing) return;
  isShowing = true;
  while (waiting) {
    const next = waiting;
    waiting = null;
    await showFrame(next).catch(tellFailure); // the next one may be better
  }
  isShowing = false;
}

async function showFrame(message) {
  const { header, parts } = message;
  if (!isPaused || header.answered || !header.has_objects) objects = header.objects; // else those of before still are
  try {
    if (!isFrozen()) await showPicture(message);
    else if (sameFrame(header, shown)) await showMasks(header, parts);
    else later = message;
    noteAnswer(header);
  } finally {
    hoverAnew();
    showObjects();
    connection.send({ type: "drawn", sequence: header.sequence }); // else no more would be sent
  }
}

function tellFailure(error) {
  console.error(error);
  if (performance.now() - failedAtMs < SAY_AGAIN_MS) return;
  failedAtMs = performance.now();
  panel.toast(`A picture could not be drawn: ${error.message}`, "bad");
}

async function showPicture(message) {
  const { header, parts: [jpeg, png] } = message;
  const [picture, labels] = await Promise.all([decodedJpeg(jpeg), png.length ? readLabels(png) : null]);
  if (isFrozen() && shown) {
    picture.close(); // pressed meanwhile: the click belongs to what is on the screen
    later = message;
    return;
  }
  shown = header;
  later = null;
  setMasks(labels, header);
  document.getElementById("empty").hidden = true;
  await view.show(picture, header.size);
  drawnTimesMs.push(performance.now());
}

async function showMasks(header, [, png]) {
  setMasks(png.length ? await readLabels(png) : null, header);
  await view.redraw();
}

function setMasks(labels, header) {
  view.masks = labels && new Masks(labels, header.objects);
  view.preview = null;
  hoverAnew();
}

/** For whoever looks from outside, as tests do: which frame is where on the canvas. */
function tellDrawn() {
  hoverAnew(); // the view may have moved
  if (!shown) return;
  const { scale, left, top } = view.placement();
  Object.assign(canvas.dataset, { ...momentOf(shown), scale, left, top, objects: shown.objects.length });
}

async function takeCandidates(header, [png]) {
  const before = timesForgotten;
  const read = await readCandidates(png);
  if (before !== timesForgotten) return;
  const picture = clicked && sameFrame(clicked.header, header) ? clicked.picture : null;
  const canvases = [0, 1, 2].map((index) => thumbnail(read, index, picture));
  candidates = { ...read, header, canvases, chosen: 0 };
  showChoice();
}

/** An image has no room for them, so they come by themselves, before it or after. */
function takeCandidateIou(message) {
  candidateIou = message;
  if (candidates) showChoice();
}

/** The thumbnails; where the frame of the click stands still without an answer, also the mask on it. */
function showChoice() {
  const iou = candidates && sameFrame(candidates.header, candidateIou) ? candidateIou.iou : [];
  panel.showCandidates(candidates?.canvases ?? [], iou, candidates?.chosen, choose);
  const isPreview = candidates && isPaused && sameFrame(candidates.header, shown);
  view.preview = isPreview ? previewOf(candidates, candidates.chosen) : null;
  view.redraw();
}

function takeStatus(header) {
  status = header;
  drawnTimesMs = drawnTimesMs.filter((atMs) => performance.now() - atMs < 3000);
  panel.showFigures(status, clickToMaskMs, (drawnTimesMs.length / 3).toFixed(0));
  showState();
  document.getElementById("empty").textContent = panel.problemOf(status);
}

function showState() {
  const problem = status ? panel.problemOf(status) : "Connecting";
  if (lostWhy) panel.showState("lost", lostWhy);
  else if (isPaused) panel.showState("paused", isStale ? STALE : "Paused");
  else panel.showState(problem ? "waiting" : "live", problem || "Live");
}

/** What was sent shortly before a loss may be lost too. */
function tellUncertain() {
  if (asked && performance.now() - asked.atMs < UNCERTAIN_MS) {
    panel.toast("The connection is lost: what was clicked last may not have arrived", "bad");
  }
  asked = null;
}

/** Of anybody's prompt: its frame tells whether it is about what is seen here. Without a frame nobody took it. */
function takeRefusal(header) {
  panel.logRefusal(header);
  if (header.sec === undefined || sameFrame(header, asked?.header)) asked = null;
  if (header.kind !== "stale" || !isPaused || !sameFrame(header, shown)) return;
  isStale = true;
  showState();
}

/** Measures from a prompt to the mask that it made: a new object, or a new answer on the prompt's frame. */
function noteAnswer(header) {
  if (!asked) return;
  const isNew = header.objects.some((object) => !asked.ids.has(object.id));
  if (isNew || (header.answered && sameFrame(header, asked.header) && header.sequence > asked.header.sequence)) {
    clickToMaskMs = performance.now() - asked.atMs;
    canvas.dataset.clickToMaskMs = clickToMaskMs;
    asked = null;
  }
}

// To the server.

function send(gesture) {
  const sent = connection.send(gesture);
  if (!sent) panel.toast("There is no connection: nothing was sent", "bad");
  return sent;
}

/** Sends what may make another object the clicked one: the candidates are not its masks. The server tells all pages. */
function edit(gesture) {
  const sent = send(gesture);
  if (sent) forgetCandidates();
  return sent;
}

function prompt(gesture) {
  if (!edit({ ...gesture, ...momentOf(shown) })) return;
  asked = { atMs: performance.now(), ids: new Set(objects.map((object) => object.id)), header: shown };
}

function click([x, y], kind) {
  const [width, height] = shown.size;
  const within = (value, length) => Math.min(Math.max(value - 0.5, 0), length - 1); // (0, 0) is a pixel's centre
  keepClicked();
  prompt({ type: "click", kind, x: within(x, width), y: within(y, height) });
  view.mark(kind, x, y);
  if (kind === "foreground") selectedId = "";
}

async function keepClicked() {
  const header = shown;
  const picture = await createImageBitmap(view.picture);
  clicked?.picture.close();
  clicked = { header, picture };
}

function choose(index) {
  if (!candidates || !send({ type: "choose", index })) return;
  candidates.chosen = index;
  showChoice();
}

function forgetCandidates() {
  timesForgotten += 1;
  candidates = null;
  showChoice();
}

function command(name) {
  edit({ type: "command", name });
}

function select(id) {
  if (edit({ type: "select", id })) selectedId = id;
  showObjects();
}

function remove(id) {
  if (edit({ type: "remove", id }) && id === selectedId) selectedId = "";
}

// What is under the pointer.

function hover(id) {
  if (id === view.hoveredId) return;
  view.hoveredId = id;
  showObjects();
  view.redraw();
}

function showObjects() {
  objectList.show(objects, view.hoveredId, selectedId);
}

function showTooltip(object) {
  tooltip.hidden = !object;
  if (!object) return;
  tooltip.textContent = `${panel.nameOf(object)} \u00b7 IoU ${panel.iouOf(object)} \u00b7 ${panel.areaOf(object)}`;
  const bounds = canvas.getBoundingClientRect();
  const left = Math.min(pointerPlace.x - bounds.left + 14, canvas.clientWidth - tooltip.offsetWidth - 6);
  const top = Math.max(6, pointerPlace.y - bounds.top - 40);
  Object.assign(tooltip.style, { left: `${left}px`, top: `${top}px` });
}

function hoverAt(place) {
  pointerPlace = place;
  if (!place) hover("");
  hoverAnew();
}

/** What is under the pointer may be another object, though only masks or view have moved; a line of the list stays. */
function hoverAnew() {
  const object = pointerPlace && view.masks?.at(...view.toImage(pointerPlace.x, pointerPlace.y));
  showTooltip(object);
  if (pointerPlace) hover(object?.id ?? "");
  else if (!objects.some(({ id }) => id === view.hoveredId)) hover("");
}

// Pause, tools, keys.

function goOn() {
  if (later && !waiting && !isShowing) takeFrame(later);
}

function pause() {
  if (!shown) return;
  isPaused = !isPaused;
  document.getElementById("pause").setAttribute("aria-pressed", isPaused);
  document.getElementById("pause").textContent = isPaused ? "Resume" : "Pause";
  document.getElementById("frozen").hidden = !isPaused;
  isStale = false;
  showState();
  if (!isPaused) goOn();
}

function setTool(name) {
  tool = name;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === name);
  }
}

function nextCandidate() {
  if (candidates) choose((candidates.chosen + 1) % 3);
}

function toggleMasks() {
  view.masksAreShown = !view.masksAreShown;
  view.redraw();
}

const KEYS = {
  1: () => choose(0),
  2: () => choose(1),
  3: () => choose(2),
  n: nextCandidate,
  u: () => command("undo"),
  z: () => command("undo"),
  c: () => command("clear"),
  Delete: () => remove(view.hoveredId),
  Backspace: () => remove(view.hoveredId),
  " ": pause,
  0: () => view.fit(),
  m: toggleMasks,
  Escape: () => pointer.giveUp(),
};

const pointer = new Pointer(canvas, view, {
  press: () => {
    isPressed = true;
  },
  release: () => {
    isPressed = false;
    if (!isPaused) goOn();
  },
  click: (place, button, event) => {
    if (button !== "left") click(place, "background");
    else click(place, event.shiftKey ? "more" : tool);
  },
  drag: (box) => {
    view.box = box;
    view.redraw();
  },
  box: ([x0, y0, x1, y1]) => {
    view.box = null;
    selectedId = "";
    if (x0 < x1 && y0 < y1) prompt({ type: "drag", x0, y0, x1, y1 });
    view.redraw();
  },
  hover: hoverAt,
});

addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isUndo = key === "z" && (event.ctrlKey || event.metaKey);
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey && key !== "z";
  const isOnButton = event.target.closest("button, summary") && (key === " " || key === "Enter");
  if (!KEYS[key] || event.repeat || isOnButton || !(isUndo || isPlain)) return;
  event.preventDefault();
  KEYS[key]();
});

for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => setTool(button.dataset.tool);
document.getElementById("undo").onclick = () => command("undo");
document.getElementById("clear").onclick = () => command("clear");
document.getElementById("pause").onclick = pause;
document.getElementById("fit").onclick = () => view.fit();
