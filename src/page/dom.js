"use strict";
// Elements out of names, attributes and children. Text is text: nothing here reads HTML.
function h(name, attributes, ...children) {
  return build(document.createElement(name), attributes, children);
}

function svg(name, attributes, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function build(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else if (key === "hue") element.style.setProperty("--hue", value);
    else if (["width", "height", "left"].includes(key) && element instanceof HTMLElement) element.style[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

// Sizes as the command line has them.
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return String(Number(bytes.toPrecision(3))) + units[unit];
}

function plural(count, word) {
  return count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");
}

// Colours that are equally light, so that white stands out from each.
function tint(degrees) {
  return "oklch(54% 0.13 " + Math.round(degrees % 360) + ")";
}

function short(digest) {
  return digest ? digest.replace("sha256:", "").slice(0, 12) : "";
}

function data() {
  return JSON.parse(document.getElementById("data").textContent);
}
