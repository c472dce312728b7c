// What is wrong with the page for people who read it; an empty list when nothing is.
const wrong = [];
const root = document.documentElement;
if (root.scrollWidth > innerWidth + 1) {
  const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
  wrong.push("wider than the screen: " + root.scrollWidth + ": " + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 120)).join(" | "));
}
// Whatever notation a colour has, a canvas knows what it looks like.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function channels(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}
function light(colour) {
  const [r, g, b] = colour.map((c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = channels(getComputedStyle(e).backgroundColor);
    if (colour[3] > 250) return colour.slice(0, 3);
  }
  return [255, 255, 255];
}
let texts = 0;
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.checkVisibility() || ["SCRIPT", "NOSCRIPT", "STYLE"].includes(element.tagName)) continue;
  texts += 1;
  const style = getComputedStyle(element);
  const about = JSON.stringify(element.textContent.trim().slice(0, 40));
  if (parseFloat(style.fontSize) < 11.5) wrong.push("small: " + style.fontSize + " " + about);
  const svg = element instanceof SVGElement;
  const colour = channels(svg ? style.fill : style.color).slice(0, 3);
  let opacity = 1;
  for (let e = element; e; e = e.parentElement) opacity *= parseFloat(getComputedStyle(e).opacity);
  const back = behind(element);
  const mixed = colour.map((c, i) => c * opacity + back[i] * (1 - opacity));
  const [a, b] = [light(mixed), light(back)].sort((x, y) => y - x);
  // What is faded out on purpose may be fainter.
  const least = opacity < 1 ? 2 : 4.5;
  if ((a + 0.05) / (b + 0.05) < least) wrong.push("faint: " + ((a + 0.05) / (b + 0.05)).toFixed(2) + " " + about);
}
if (texts < 5) wrong.push("only " + texts + " pieces of text");
return wrong.slice(0, 10);
