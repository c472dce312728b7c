// A terminal's screen: what a program that takes it for an xterm writes, as text with colours. What it does not
// know it leaves out. Lines that scroll away at the top are kept, as many as are bearable.
const keptLines = 1000;
const blank = { text: " ", style: "" };

class Screen {
  constructor(element, rows, columns) {
    Object.assign(this, { element, rows, columns, kept: [], rest: "", style: "", pen: {}, saved: [0, 0], application: false, hidden: false, other: null });
    this.decoder = new TextDecoder();
    this.clear();
  }

  clear() {
    this.lines = [...Array(this.rows)].map(() => []);
    Object.assign(this, { row: 0, column: 0, top: 0, bottom: this.rows - 1 });
  }

  write(bytes) {
    const text = this.rest + this.decoder.decode(bytes, { stream: true });
    this.rest = "";
    for (let at = 0; at < text.length;) {
      const one = String.fromCodePoint(text.codePointAt(at));
      if (one !== "\x1b") { this.plain(one); at += one.length; continue; }
      const rest = text.slice(at, at + 4096);
      const found = /^\x1b(?:\[([<=>?]?)([0-9;:]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+#%][ -~]|([ -Z\\^-~]))/.exec(rest);
      if (found) {
        at += found[0].length;
        if (found[3]) this.control(found[1], found[2].split(/[;:]/).map((word) => Math.min(9999, Number(word) || 0)), found[3]);
        else if (found[4]) this.escape(found[4]);
      } else if (rest.length < 4096 && /^\x1b(?:\[[<=>?]?[0-9;:]*[ -/]*|\][^\x07\x1b]*\x1b?|[()*+#%])?$/.test(rest)) { this.rest = rest; break; }
      else at += 1;
    }
    this.draw();
  }

  plain(one) {
    if (one === "\n" || one === "\v" || one === "\f") this.feed();
    else if (one === "\r") this.column = 0;
    else if (one === "\b") this.column = Math.max(0, Math.min(this.column, this.columns - 1) - 1);
    else if (one === "\t") this.column = Math.min(this.columns - 1, (this.column + 8) & ~7);
    else if (one >= " " && one !== "\x7f") {
      if (this.column >= this.columns) { this.column = 0; this.feed(); }
      const line = this.lines[this.row];
      while (line.length < this.column) line.push(blank);
      line[this.column] = { text: one, style: this.style };
      this.column += 1;
    }
  }

  feed() {
    if (this.row === this.bottom) this.scroll(1);
    else if (this.row < this.rows - 1) this.row += 1;
  }

  // Lines go out at the top of the region and come in at its bottom, or the other way.
  scroll(count) {
    for (let left = Math.min(Math.abs(count), this.rows); left > 0; left -= 1) {
      const gone = this.lines.splice(count > 0 ? this.top : this.bottom, 1)[0];
      this.lines.splice(count > 0 ? this.bottom : this.top, 0, []);
      if (count > 0 && this.top === 0 && !this.other) {
        this.kept.push(gone);
        if (this.kept.length > keptLines) this.kept.shift();
      }
    }
  }

  escape(letter) {
    if (letter === "7") this.saved = [this.row, this.column];
    else if (letter === "8") [this.row, this.column] = this.saved;
    else if (letter === "D") this.feed();
    else if (letter === "E") { this.column = 0; this.feed(); }
    else if (letter === "M") { if (this.row === this.top) this.scroll(-1); else this.row = Math.max(0, this.row - 1); }
    else if (letter === "c") { this.clear(); this.colour([0]); }
  }

  control(kind, numbers, letter) {
    const count = Math.max(1, numbers[0]), line = this.lines[this.row];
    if (kind === "?" && (letter === "h" || letter === "l")) { for (const mode of numbers) this.mode(mode, letter === "h"); return; }
    if (kind) return;
    const rows = (value) => Math.max(0, Math.min(this.rows - 1, value)), columns = (value) => Math.max(0, Math.min(this.columns - 1, value));
    const inside = this.row >= this.top && this.row <= this.bottom;
    switch (letter) {
      case "A": this.row = rows(this.row - count); break;
      case "B": case "e": this.row = rows(this.row + count); break;
      case "C": case "a": this.column = columns(this.column + count); break;
      case "D": this.column = columns(this.column - count); break;
      case "E": case "F": this.row = rows(this.row + (letter === "E" ? count : -count)); this.column = 0; break;
      case "G": case "`": this.column = columns(count - 1); break;
      case "d": this.row = rows(count - 1); break;
      case "H": case "f": this.row = rows(count - 1); this.column = columns(Math.max(1, numbers[1] || 1) - 1); break;
      case "J":
        this.erase(line, numbers[0]);
        this.lines.forEach((other, index) => { if (numbers[0] >= 2 || (numbers[0] === 0 && index > this.row) || (numbers[0] === 1 && index < this.row)) other.length = 0; });
        break;
      case "K": this.erase(line, numbers[0]); break;
      case "X": for (let at = this.column; at < Math.min(line.length, this.column + count); at += 1) line[at] = blank; break;
      case "P": line.splice(this.column, count); break;
      case "@": if (this.column < line.length) { line.splice(this.column, 0, ...Array(Math.min(count, this.columns)).fill(blank)); line.length = Math.min(line.length, this.columns); } break;
      case "L": case "M":
        for (let left = Math.min(count, this.rows); inside && left > 0; left -= 1) {
          this.lines.splice(letter === "L" ? this.bottom : this.row, 1);
          this.lines.splice(letter === "L" ? this.row : this.bottom, 0, []);
        }
        break;
      case "S": this.scroll(count); break;
      case "T": this.scroll(-count); break;
      case "r":
        this.top = rows(count - 1);
        this.bottom = rows((numbers[1] || this.rows) - 1);
        if (this.top >= this.bottom) [this.top, this.bottom] = [0, this.rows - 1];
        this.row = this.column = 0;
        break;
      case "s": this.saved = [this.row, this.column]; break;
      case "u": [this.row, this.column] = this.saved; break;
      case "m": this.colour(numbers); break;
    }
  }

  erase(line, how) {
    if (how === 0) line.length = Math.min(line.length, this.column);
    else if (how >= 2) line.length = 0;
    else for (let at = 0; at <= Math.min(this.column, line.length - 1); at += 1) line[at] = blank;
  }

  mode(mode, on) {
    if (mode === 1) this.application = on;
    else if (mode === 25) this.hidden = !on;
    else if ([47, 1047, 1049].includes(mode) && on !== Boolean(this.other)) {
      if (on) { this.other = [this.lines, this.row, this.column]; this.clear(); }
      else { const [lines, row, column] = this.other; this.other = null; this.clear(); Object.assign(this, { lines, row, column }); }
    }
  }

  colour(numbers) {
    for (let at = 0; at < numbers.length; at += 1) {
      const one = numbers[at];
      if (one === 0) this.pen = {};
      else if (one === 1 || one === 22) this.pen.bold = one === 1;
      else if (one === 7 || one === 27) this.pen.turned = one === 7;
      else if (one >= 30 && one <= 37) this.pen.ink = one - 30;
      else if (one >= 90 && one <= 97) this.pen.ink = one - 82;
      else if (one === 39) delete this.pen.ink;
      else if (one >= 40 && one <= 47) this.pen.paper = one - 40;
      else if (one >= 100 && one <= 107) this.pen.paper = one - 92;
      else if (one === 49) delete this.pen.paper;
      else if (one === 38 || one === 48) {
        // Of 256 colours the first 16 are known; of true colour none.
        if (numbers[at + 1] === 5 && numbers[at + 2] < 16) this.pen[one === 38 ? "ink" : "paper"] = numbers[at + 2];
        at += numbers[at + 1] === 5 ? 2 : 4;
      }
    }
    const { ink, paper, bold, turned } = this.pen;
    this.style = [ink !== undefined && "ink" + ink, paper !== undefined && "paper" + paper, bold && "bold", turned && "turned"].filter(Boolean).join(" ");
  }

  draw() {
    const below = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight;
    const parts = [];
    const last = this.other ? this.rows - 1 : Math.max(this.row, this.lines.findLastIndex((line) => line.length > 0));
    const all = [...(this.other ? [] : this.kept), ...this.lines.slice(0, last + 1)];
    const cursor = all.length - last - 1 + this.row;
    all.forEach((line, number) => {
      const here = number === cursor && !this.hidden ? Math.min(this.column, this.columns - 1) : -1;
      const cells = here < line.length ? line : [...line, ...Array(here - line.length + 1).fill(blank)];
      for (let at = 0; at < cells.length;) {
        let end = at + 1;
        while (end < cells.length && at !== here && end !== here && cells[end].style === cells[at].style) end += 1;
        const text = cells.slice(at, end).map((cell) => cell.text).join("");
        const style = (cells[at].style + (at === here ? " cursor" : "")).trim();
        parts.push(style ? h("span", { class: style }, text) : text);
        at = end;
      }
      if (number < all.length - 1) parts.push("\n");
    });
    fill(this.element, parts);
    if (below < 40) this.element.scrollTop = this.element.scrollHeight;
  }
}

const keys = { Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", PageUp: "\x1b[5~", PageDown: "\x1b[6~" };
const arrows = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D", Home: "H", End: "F" };

// What a key sends.
function typed(event, screen) {
  if (event.ctrlKey && /^[a-z\[\\\]]$/i.test(event.key)) return String.fromCharCode(event.key.toUpperCase().charCodeAt(0) - 64);
  if (event.ctrlKey || event.altKey || event.metaKey) return "";
  if (arrows[event.key]) return (screen.application ? "\x1bO" : "\x1b[") + arrows[event.key];
  return keys[event.key] || ([...event.key].length === 1 ? event.key : "");
}
