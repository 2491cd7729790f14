// What is written beside the picture: objects, candidates, refusals, rates.

const TOAST_MS = 7000;
const LOG_LENGTH = 6;
const LEVELS = { ok: "", warning: "warning: ", error: "error: ", stale: "", unknown: "" };

const byId = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const nameOf = (object) => `${object.class_id} ${object.id}`.trim();
export const iouOf = (object) => (object.iou.length ? object.iou[0].toFixed(2) : "?");
export const areaOf = (object) => (object.area ? `${object.area.toLocaleString("en")} px` : "covered by others");

/** Passing words over the picture. */
export function toast(text, kind) {
  const item = element("li", { className: kind, textContent: text });
  byId("toasts").append(item);
  while (byId("toasts").children.length > 4) byId("toasts").firstChild.remove();
  setTimeout(() => item.remove(), TOAST_MS);
}

/** A refusal, in the words of who refused. */
export function logRefusal({ topic, id, reason }) {
  const time = element("time", { textContent: new Date().toLocaleTimeString() });
  const where = element("span", { className: "topic", textContent: [topic, id].filter(Boolean).join(" ") });
  byId("log").prepend(element("li", {}, time, where, reason));
  while (byId("log").children.length > LOG_LENGTH) byId("log").lastChild.remove();
  byId("log-section").hidden = false;
  toast(reason, "bad");
}

/** The list of objects; rows are kept, so that what is clicked on does not change under the pointer. */
export class ObjectList {
  /** Calls on.hover(id), on.select(id), on.remove(id). */
  constructor(on) {
    this.on = on;
    this.rows = new Map();
  }

  show(objects, hoveredId, selectedId) {
    const ids = new Set(objects.map((object) => object.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.item.remove();
      this.rows.delete(id);
    }
    objects.forEach((object, index) => this.update(object, index, hoveredId, selectedId));
    byId("count").textContent = objects.length || "";
    byId("no-objects").hidden = objects.length > 0;
  }

  update(object, index, hoveredId, selectedId) {
    const row = this.rows.get(object.id) ?? this.added(object.id);
    if (byId("objects").children[index] !== row.item) {
      byId("objects").insertBefore(row.item, byId("objects").children[index] ?? null);
    }
    row.swatch.style.background = `rgb(${object.colour})`;
    row.name.textContent = nameOf(object);
    row.figures.textContent = `IoU ${iouOf(object)} \u00b7 ${areaOf(object)}`;
    row.item.classList.toggle("hover", object.id === hoveredId);
    row.item.classList.toggle("selected", object.id === selectedId);
  }

  added(id) {
    const row = {
      swatch: element("span", { className: "swatch" }),
      name: element("span", { className: "object-name" }),
      figures: element("span", { className: "object-figures" }),
    };
    const button = (text, title, act) => element("button", { textContent: text, title, onclick: () => act(id) });
    row.item = element(
      "li",
      { onpointerenter: () => this.on.hover(id), onpointerleave: () => this.on.hover("") },
      row.swatch,
      element("div", { className: "object-text" }, row.name, row.figures),
      button("Select", "Further clicks go to this object", this.on.select),
      button("\u2715", "Remove this object", this.on.remove),
    );
    row.item.dataset.id = id;
    this.rows.set(id, row);
    return row;
  }
}

/** The thumbnails; an empty list hides them. */
export function showCandidates(canvases, iou, chosen, choose) {
  byId("candidates").hidden = canvases.length === 0;
  const items = canvases.map((canvas, index) => {
    const caption = iou.length > index ? ` IoU ${iou[index].toFixed(2)}` : "";
    const button = element("button", { onclick: () => choose(index) }, canvas, element("kbd", { textContent: index + 1 }), caption);
    button.setAttribute("aria-pressed", index === chosen);
    return element("li", {}, button);
  });
  byId("candidate-list").replaceChildren(...items);
}

/** The dot and the words at the top. */
export function showState(state, text) {
  byId("state").dataset.state = state;
  byId("state-text").textContent = text;
}

/** What is wrong or awaited, in words; "" if nothing is. */
export function problemOf(status) {
  if (status.image_problem) return `The image cannot be shown: ${status.image_problem}`;
  if (!status.image_publishers) return `Waiting for images: nobody publishes ${status.image_topic}`;
  if (!status.image_hz && !status.image_is_still) return `Waiting for images on ${status.image_topic}`;
  if (!status.node_status) return `Images only: the node ${status.node} is not running`;
  if (status.late) return `Images only: ${status.late}`;
  const { level, message } = status.node_status;
  return level === "ok" && message === "segmenting" ? "" : `${status.node}: ${LEVELS[level]}${message}`;
}

/** Rates and times at the top, and all that is known under Details. */
export function showFigures(status, clickToMaskMs, picturesHz) {
  const values = status.node_status?.values ?? {};
  const figure = (name, value, unit) => (value === undefined ? [] : [element("span", {}, `${name} `, element("b", { textContent: value }), ` ${unit}`)]);
  const rounded = (value) => (value === undefined ? undefined : Math.round(value));
  byId("figures").replaceChildren(
    ...figure("picture", picturesHz, "Hz"),
    ...figure("encode", values["encode (ms)"], "ms"),
    ...figure("decode", values["decode (ms)"], "ms"),
    ...figure("latency", rounded(status.age_ms), "ms"),
    ...figure("click to mask", rounded(clickToMaskMs), "ms"),
  );
  const here = {
    "image topic": status.image_topic,
    "images (Hz)": status.image_hz,
    "making a picture (ms)": status.picture_ms,
    "picture (kB)": status.picture_kb,
    "answers without image": status.unpaired,
    viewers: status.viewers,
  };
  const rows = Object.entries({ ...here, ...values }).filter(([, value]) => value !== undefined);
  byId("details").replaceChildren(
    ...rows.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })]),
  );
}
