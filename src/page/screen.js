// A small screen for a terminal that claims to be dumb: lines, the cursor going back and forth in the
// last one, and erasing. Colours and what moves over the whole screen are left out.
class Screen {
  constructor(element) {
    this.element = element;
    this.lines = [""];
    this.column = 0;
    this.decoder = new TextDecoder();
    this.rest = "";
  }

  write(bytes) {
    const text = this.rest + this.decoder.decode(bytes, { stream: true });
    this.rest = "";
    for (let at = 0; at < text.length; at += 1) {
      const one = text[at];
      if (one === "\x1b") {
        const sequence = /^\x1b(?:\[([0-9;?]*)([@-~])|[^[])/.exec(text.slice(at));
        if (!sequence) {
          if (text.length - at < 32) { this.rest = text.slice(at); break; }
          continue;
        }
        this.obey(sequence[2], parseInt(sequence[1], 10) || 0);
        at += sequence[0].length - 1;
      } else if (one === "\n") {
        this.lines.push("");
        this.column = 0;
        if (this.lines.length > 2000) this.lines.shift();
      } else if (one === "\r") this.column = 0;
      else if (one === "\b") this.column = Math.max(0, this.column - 1);
      else if (one >= " ") this.put(one);
    }
    this.element.textContent = this.lines.join("\n");
    this.element.scrollTop = this.element.scrollHeight;
  }

  put(one) {
    const line = this.lines.pop().padEnd(this.column);
    this.lines.push(line.slice(0, this.column) + one + line.slice(this.column + 1));
    this.column += 1;
  }

  obey(letter, number) {
    if (letter === "D") this.column = Math.max(0, this.column - (number || 1));
    else if (letter === "C") this.column += number || 1;
    else if (letter === "J" || letter === "K") this.lines.push(this.lines.pop().slice(0, this.column));
  }
}

const keys = { Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D" };

// What a key sends.
function typed(event) {
  if (event.ctrlKey && /^[a-z]$/i.test(event.key)) return String.fromCharCode(event.key.toUpperCase().charCodeAt(0) - 64);
  if (event.ctrlKey || event.altKey || event.metaKey) return "";
  return keys[event.key] || (event.key.length === 1 ? event.key : "");
}
