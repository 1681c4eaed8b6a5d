// The explorer: a caption whose words can be stepped through, and for each the regions it came from. Its data is made
// by captioner/explorer.py, which also puts COLOUR_TABLES before this file: 256 RGB colours for each colour map.
// Everything happens in the page, and every text goes in as text. Words and regions count from 0, regions row by row.

const WITH_IDS = ['caption', 'hint', 'unfamiliar', 'overlay', 'steps', 'previous', 'next', 'word-detail', 'others'];
const LEAST_SHOWN = 0.005; // logits; less would read 0.00
const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'style') for (const [name, setting] of Object.entries(value)) element.style.setProperty(name, setting);
    else if (typeof value === 'function') element.addEventListener(key, value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes) {
  return fill(document.createElementNS(SVG, name), attributes, []);
}

function push(content, click, attributes = {}) {
  return make('button', {type: 'button', click, ...attributes}, content);
}

function note(text) {
  return make('p', {class: 'explorer-note'}, text);
}

function minus(text) {
  return text.replace('-', '−');
}

function percent(share) {
  return share >= 0.01 ? `${Math.round(100 * share)}\u00a0%` : 'under 1\u00a0%';
}

/** As ``percent``, with digits enough to tell apart what it says alike. */
function finely(share) {
  return share >= 0.0001 ? `${Number((100 * share).toPrecision(3))}\u00a0%` : 'under 0.01\u00a0%';
}

function relied(reliance) {
  return `${minus(`${Math.round(100 * reliance)}`)}\u00a0%`;
}

function signed(value) {
  return Math.abs(value) < LEAST_SHOWN ? '0.00' : minus(`${value < 0 ? '' : '+'}${value.toFixed(2)}`);
}

function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/** Numbers on the grid of regions; what is negative among them is not drawn. */
class RegionMap {
  constructor(values, [rows, columns]) {
    Object.assign(this, {values, rows, columns});
    this.maximum = Math.max(0, ...values);
    this.total = sum(values.map(value => Math.max(value, 0)));
    this.strongest = this.maximum > 0 ? values.indexOf(this.maximum) : null;
  }

  region(row, column) {
    return row * this.columns + column;
  }

  place(region) {
    return {row: Math.floor(region / this.columns), column: region % this.columns};
  }

  /** Which ninth of the photograph holds most, in words, and how much of all it holds, 0..1. */
  get mostly() {
    const ninths = new Array(9).fill(0);
    this.values.forEach((value, region) => {
      const {row, column} = this.place(region);
      const [down, across] = [(row + 0.5) / this.rows, (column + 0.5) / this.columns].map(part => Math.floor(3 * part));
      ninths[3 * down + across] += Math.max(value, 0);
    });
    const most = ninths.indexOf(Math.max(...ninths));
    const name = `${['top', 'centre', 'bottom'][Math.floor(most / 3)]} ${['left', 'centre', 'right'][most % 3]}`;
    return {name: name === 'centre centre' ? 'centre' : name, share: ninths[most] / this.total};
  }

  /** How important each pixel of a picture is, 0..1; as captioner.rendering.overlay, or in honest cells. */
  importance(width, height, cells) {
    const weigh = cells ? nearest : cubic;
    const [across, down] = [weigh(width, this.columns), weigh(height, this.rows)];
    const positive = Float32Array.from(this.values, value => Math.max(value, 0));
    const pixels = new Float32Array(width * height);
    const line = new Float32Array(this.columns);
    let maximum = 1e-12;
    for (let y = 0; y < height; y++) {
      line.fill(0);
      for (let k = y * down.taps; k < (y + 1) * down.taps; k++) {
        const row = down.cells[k] * this.columns;
        for (let column = 0; column < this.columns; column++) line[column] += down.weights[k] * positive[row + column];
      }
      for (let x = 0; x < width; x++) {
        let value = 0;
        for (let k = x * across.taps; k < (x + 1) * across.taps; k++) {
          value += across.weights[k] * line[across.cells[k]];
        }
        if (value <= 0) continue; // a cubic undershoots beside a peak
        pixels[y * width + x] = value;
        if (value > maximum) maximum = value;
      }
    }
    for (let i = 0; i < pixels.length; i++) pixels[i] /= maximum;
    return pixels;
  }
}

/** For each of `size` pixels the one of `count` cells that it lies in, with weight 1. */
function nearest(size, count) {
  const cells = Int32Array.from({length: size}, (_, i) => Math.floor(i * count / size));
  return {taps: 1, cells, weights: new Float32Array(size).fill(1)};
}

/** For each of `size` pixels the four of `count` cells about it and their weights, as OpenCV's INTER_CUBIC has them. */
function cubic(size, count) {
  const a = -0.75;
  const near = x => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = x => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  const cells = new Int32Array(4 * size);
  const weights = new Float32Array(4 * size);
  for (let i = 0; i < size; i++) {
    const at = (i + 0.5) * count / size - 0.5;
    const first = Math.floor(at);
    const x = at - first;
    weights.set([far(x + 1), near(x), near(1 - x), far(2 - x)], 4 * i);
    for (let k = 0; k < 4; k++) cells[4 * i + k] = clamp(first + k - 1, 0, count - 1);
  }
  return {taps: 4, cells, weights};
}

/** What can be laid over the photograph for a word: what its regions add, or attention, before the word was chosen. */
class Source {
  static all(layers) {
    const attentive = Array.from({length: layers}, (_, layer) => new Source(layer, `layer ${layer + 1}`));
    return [...attentive, new Source('attention', 'attention'), new Source('regions', 'regions')];
  }

  constructor(key, name) {
    this.key = `${key}`;
    this.name = name;
  }

  get choice() {
    if (this.key === 'regions') return 'What each region adds to the word';
    if (this.key === 'attention') return 'Attention of the last step, before the word was chosen';
    return `Attention in ${this.name}`;
  }

  map(word, grid) {
    return new RegionMap(word[this.key] ?? word.layers[this.key], grid);
  }

  /** The greatest value of a map with its unit. */
  scale(map) {
    return this.key === 'regions' ? `${signed(map.maximum)} logits per region` : `${percent(map.maximum)} of attention`;
  }

  /** The map in words, for those who do not see it. */
  describe(word, map) {
    if (map.strongest === null) return `No region speaks for “${word.text}”, so nothing is marked.`;
    const {name, share} = map.mostly;
    const {row, column} = map.place(map.strongest);
    const where = preposition => (share >= 0.5
      ? `mostly ${preposition} the ${name} of the photograph`
      : `${preposition} several parts of the photograph, the ${name} most`);
    const strongest = `its strongest region, row ${row + 1} of ${map.rows} and column ${column + 1} of ${map.columns},`;
    if (this.key === 'regions') {
      return `“${word.text}” came ${where('from')}; ${strongest} adds ${signed(map.maximum)} to its score, `
        + `${percent(map.maximum / map.total)} of all that regions add.`;
    }
    const layer = this.key === 'attention' ? '' : `In ${this.name}, `;
    return `${layer}${layer ? 'before' : 'Before'} “${word.text}” was chosen, attention lay ${where('on')}; `
      + `${strongest} holds ${percent(map.maximum)} of it.`;
  }
}

/** A photograph, decoded once; maps are laid over it. */
class Photograph {
  constructor({src, width, height}) {
    Object.assign(this, {width, height, decoded: false});
    this.image = new Image();
    this.image.src = src;
    this.ready = this.image.decode().then(() => { this.decoded = true; });
  }

  /** A canvas with a map over the photograph; colour and opacity follow the importance of each pixel. */
  overlay(map, {colours, strength, cells}, width = this.width) {
    const height = Math.max(1, Math.round(width * this.height / this.width));
    const canvas = make('canvas', {width, height});
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(this.image, 0, 0, width, height);
    const picture = context.getImageData(0, 0, width, height);
    const table = COLOUR_TABLES[colours];
    const importance = map.importance(width, height, cells);
    const {data} = picture;
    for (let i = 0; i < importance.length; i++) {
      if (!importance[i]) continue;
      const opacity = importance[i] * strength / 100;
      const colour = 3 * Math.round(255 * importance[i]);
      for (let channel = 0; channel < 3; channel++) {
        data[4 * i + channel] = opacity * table[colour + channel] + (1 - opacity) * data[4 * i + channel];
      }
    }
    context.putImageData(picture, 0, 0);
    return canvas;
  }
}

/** How maps are drawn; a person's choice holds for all words and versions. */
class Settings {
  source = 'regions';
  colours = 'viridis';
  strength = 65;
  cells = false;
  outline = true;

  constructor(part, changed) {
    const chosen = (key, read) => event => {
      this[key] = read(event.target);
      changed();
    };
    this.sources = make('select', {change: chosen('source', field => field.value)});
    const maps = Object.keys(COLOUR_TABLES).map(name => make('option', {}, name));
    const share = make('span', {}, `${this.strength} %`);
    const colours = make('select', {change: chosen('colours', field => field.value)}, ...maps);
    const strength = make('input', {type: 'range', min: 0, max: 100, step: 5, value: this.strength,
      input: event => {
        share.textContent = `${event.target.value} %`;
        chosen('strength', field => Number(field.value))(event);
      }});
    const tick = (key, text) => make('label', {},
      make('input', {type: 'checkbox', checked: this[key], change: chosen(key, field => field.checked)}), text);
    this.element = part('details', 'settings', {},
      make('summary', {}, 'How the map is drawn'),
      part('div', 'fields', {},
        make('label', {}, make('span', {}, 'Shown'), this.sources),
        make('label', {}, make('span', {}, 'Colours'), colours),
        make('label', {}, make('span', {}, 'Strength ', share), strength),
        tick('cells', 'Regions as they are, not smoothed'),
        tick('outline', 'Outline of the strongest region')));
  }

  /** Offer the maps of a model with so many layers. */
  offer(layers) {
    const sources = Source.all(layers);
    const options = sources.map(source => make('option', {value: source.key}, source.choice));
    this.sources.replaceChildren(...options.reverse());
    this.choose(sources.some(source => source.key === this.source) ? this.source : 'regions');
  }

  choose(source) {
    this.source = this.sources.value = source;
  }
}

/** The words of a caption as buttons in a sentence. */
class Caption {
  constructor(part, select) {
    this.element = part('div', 'caption', {role: 'group', 'aria-label': 'Caption'});
    this.buttons = [];
    this.select = select;
  }

  show(words) {
    const line = make('p', {class: 'explorer-words'});
    this.buttons = words.map((word, i) => push(word.text, () => this.select(i), {
      title: `${percent(word.probability)} likely; image reliance ${relied(word.reliance)}`,
      style: {'--sure': word.probability, '--reliance': clamp(word.reliance, 0, 1)},
    }));
    let unit; // what no line break may part: a word, what joins it, the full stop
    words.forEach((word, i) => {
      if (i && !word.joined) line.append(' ');
      if (!i || !word.joined) line.append(unit = make('span', {class: 'explorer-unit'}));
      unit.append(make('span', {class: 'explorer-token'}, this.buttons[i]));
    });
    unit?.append('.');
    this.element.replaceChildren(words.length ? line : make('p', {}, 'The model found no words for this photograph.'));
  }

  mark(chosen) {
    this.buttons.forEach((button, i) => {
      button.setAttribute('aria-pressed', i === chosen);
      button.tabIndex = i === chosen ? 0 : -1;
    });
  }

  /** Write under every word how much a region supports it, logits; null takes that away. */
  support(values) {
    const most = values && Math.max(...values.map(Math.abs));
    this.buttons.forEach((button, i) => {
      button.nextSibling?.remove();
      if (!values) return;
      const style = {'--part': Math.abs(values[i]) / (most || 1)};
      const side = values[i] < 0 ? 'explorer-against' : 'explorer-for';
      button.after(make('small', {class: `explorer-support ${side}`, style}, signed(values[i])));
    });
  }
}

/** Buttons that step through the words, and play them. */
class Steps {
  #timer = null;

  constructor(part, step, advance) {
    this.advance = advance; // steps on while playing; says whether a further word is left
    const button = (name, text, click) => part('button', name, {type: 'button', disabled: true, click}, text);
    this.previous = button('previous', 'Previous', () => step(-1));
    this.next = button('next', 'Next', () => step(1));
    this.toggle = button('play', 'Play', () => (this.#timer === null ? this.play() : this.stop()));
    this.speed = make('select', {'aria-label': 'Speed'},
      make('option', {value: 2000}, 'slow'),
      make('option', {value: 1000, selected: true}, 'normal'),
      make('option', {value: 500}, 'fast'));
    this.element = part('div', 'steps', {role: 'group', 'aria-label': 'Step through the words'},
      this.previous, this.next, this.toggle, this.speed);
  }

  mark(chosen, count) {
    this.previous.disabled = chosen <= 0;
    this.next.disabled = chosen >= count - 1;
    this.toggle.disabled = count < 2;
  }

  play() {
    this.toggle.textContent = 'Pause';
    this.#wait();
    this.advance(true);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.toggle.textContent = 'Play';
  }

  #wait() {
    this.#timer = setTimeout(() => {
      if (this.element.isConnected && this.advance(false)) this.#wait();
      else this.stop();
    }, Number(this.speed.value));
  }
}

/** The photograph with the map of a word, on which regions can be asked about or marked to be erased. */
class Picture {
  #drawings = new Map();
  #frame = null;
  #shown = null;
  #painting = null; // {on, row, column} while a pointer is drawn over the photograph
  #cursor = null;

  constructor(part, {settings, ask, erasing, say}) {
    Object.assign(this, {settings, ask, erasing, say, marked: new Set(), brush: 1, erase: false});
    this.image = make('img', {alt: '', draggable: 'false'});
    this.marks = draw('svg', {preserveAspectRatio: 'none', 'aria-hidden': 'true'});
    this.overlay = part('div', 'overlay', {
      tabindex: 0, role: 'application',
      keydown: event => this.#key(event),
      click: event => { if (!this.erase) this.ask(this.#under(event)); },
      pointerdown: event => this.#press(event),
      pointermove: event => this.#move(event),
      pointerup: () => { this.#painting = null; },
      pointercancel: () => { this.#painting = null; },
    }, this.image, this.marks);
    this.scale = part('figcaption', 'scale', {});
    this.element = part('figure', 'picture', {}, this.overlay, this.scale);
    this.mode(false);
  }

  /** Show what a source says of a word of a version; `asked` is the region asked about, or null. */
  show(version, index, asked) {
    const word = version.data.words[index];
    const {photograph, grid} = version.data;
    const source = Source.all(word?.layers.length ?? 0).find(each => each.key === this.settings.source);
    const map = word ? source.map(word, grid) : new RegionMap(new Array(grid[0] * grid[1]).fill(0), grid);
    this.#shown = {version, index, map, asked};
    this.overlay.style.setProperty('--aspect', photograph.width / photograph.height);
    this.marks.setAttribute('viewBox', `0 0 ${grid[1]} ${grid[0]}`);
    this.text = word ? source.describe(word, map) : 'The photograph.';
    this.image.alt = this.text;
    this.#legend(word && map.strongest !== null ? source.scale(map) : null);
    this.#outline();
    this.#frame ??= requestAnimationFrame(() => this.#compose());
  }

  /** Forget the pictures made, and what was marked. */
  clear() {
    this.#drawings.clear();
    this.marked.clear();
    this.#cursor = null;
  }

  /** Whether the photograph is brushed over to erase, or asked about. */
  mode(erase) {
    this.erase = erase;
    this.#painting = null;
    this.overlay.classList.toggle('explorer-brushed', erase);
    const keys = erase ? 'the space bar marks one to be erased' : 'Enter asks which words one supports';
    this.overlay.setAttribute('aria-label', `Photograph; the arrow keys move over its regions, ${keys}`);
    if (this.#shown) this.#outline();
  }

  unmark() {
    this.marked.clear();
    this.#changed();
  }

  #compose() {
    this.#frame = null;
    const {version, index, map} = this.#shown;
    if (!version.photograph.decoded) {
      version.photograph.ready.then(() => { this.#frame ??= requestAnimationFrame(() => this.#compose()); });
      return;
    }
    const {source, colours, strength, cells} = this.settings;
    const key = [version.number, index, source, colours, strength, cells].join();
    if (!this.#drawings.has(key)) {
      if (this.#drawings.size >= 60) this.#drawings.delete(this.#drawings.keys().next().value);
      this.#drawings.set(key, version.photograph.overlay(map, this.settings).toDataURL('image/jpeg', 0.9));
    }
    this.image.src = this.#drawings.get(key);
  }

  #legend(greatest) {
    if (!greatest) {
      this.scale.replaceChildren(this.text);
      return;
    }
    const table = COLOUR_TABLES[this.settings.colours];
    const stops = Array.from({length: 11}, (_, i) => {
      const colour = 3 * Math.round(25.5 * i);
      return `rgb(${table.slice(colour, colour + 3).join(' ')} / ${i * this.settings.strength / 10}%)`;
    });
    const bar = make('i', {style: {background: `linear-gradient(90deg, ${stops.join()})`}});
    this.scale.replaceChildren(make('span', {}, '0'), bar, make('span', {}, greatest));
  }

  #outline() {
    const {map, asked} = this.#shown;
    const mark = (name, region) => {
      const {row, column} = map.place(region);
      return draw('rect', {class: `explorer-${name}`, x: column, y: row, width: 1, height: 1});
    };
    const found = this.erase ? [...this.marked].map(region => mark('erased', region)) : [];
    if (this.settings.outline && map.strongest !== null) found.push(mark('strongest', map.strongest));
    if (asked !== null) found.push(mark('region', asked));
    if (this.#cursor !== null) found.push(mark('cursor', this.#cursor));
    this.marks.replaceChildren(...found);
  }

  #under(event) {
    const {map} = this.#shown;
    const box = this.overlay.getBoundingClientRect();
    const row = clamp(Math.floor((event.clientY - box.top) / box.height * map.rows), 0, map.rows - 1);
    const column = clamp(Math.floor((event.clientX - box.left) / box.width * map.columns), 0, map.columns - 1);
    return map.region(row, column);
  }

  #press(event) {
    if (!this.erase || event.button !== 0) return;
    const region = this.#under(event);
    this.overlay.setPointerCapture(event.pointerId);
    this.#painting = {on: !this.marked.has(region), ...this.#shown.map.place(region)};
    this.#paint(region, this.#painting.on);
    this.#changed();
  }

  /** A fast pointer skips regions; those on the straight line to the last one are brushed too. */
  #move(event) {
    if (!this.#painting) return;
    const {map} = this.#shown;
    const {on, ...from} = this.#painting;
    const to = map.place(this.#under(event));
    const steps = Math.max(Math.abs(to.row - from.row), Math.abs(to.column - from.column));
    for (let i = 1; i <= steps; i++) {
      const between = side => Math.round(from[side] + (to[side] - from[side]) * i / steps);
      this.#paint(map.region(between('row'), between('column')), on);
    }
    this.#painting = {on, ...to};
    if (steps) this.#changed();
  }

  #paint(region, on) {
    const {map} = this.#shown;
    const {row, column} = map.place(region);
    const reach = (this.brush - 1) / 2;
    for (let y = Math.max(0, row - reach); y <= Math.min(map.rows - 1, row + reach); y++) {
      for (let x = Math.max(0, column - reach); x <= Math.min(map.columns - 1, column + reach); x++) {
        if (on) this.marked.add(map.region(y, x));
        else this.marked.delete(map.region(y, x));
      }
    }
  }

  #changed() {
    this.#outline();
    this.erasing();
  }

  #key(event) {
    const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    const act = event.key === ' ' || event.key === 'Enter';
    if (event.ctrlKey || event.altKey || event.metaKey || !(move || act)) return;
    event.preventDefault();
    const {map} = this.#shown;
    const {row, column} = map.place(this.#cursor ?? map.region(Math.floor(map.rows / 2), Math.floor(map.columns / 2)));
    const [down, across] = (this.#cursor !== null && move) || [0, 0]; // the first key shows where the cursor is
    const at = {row: clamp(row + down, 0, map.rows - 1), column: clamp(column + across, 0, map.columns - 1)};
    this.#cursor = map.region(at.row, at.column);
    if (move) {
      this.#outline();
      this.say(`Row ${at.row + 1}, column ${at.column + 1}`);
    } else if (this.erase) {
      this.#paint(this.#cursor, !this.marked.has(this.#cursor));
      this.#changed();
    } else {
      this.ask(this.#cursor);
    }
  }
}

/** The tools to erase parts of the photograph and caption it again. */
class Eraser {
  constructor(part, picture, {toggled, erase}) {
    Object.assign(this, {picture, toggled});
    this.toggle = push('Erase parts', () => this.mode(!this.picture.erase), {'aria-pressed': 'false'});
    const marked = () => [...picture.marked].sort((a, b) => a - b);
    this.again = push('Caption again without them', () => erase(marked()), {class: 'explorer-main'});
    this.clear = push('Clear', () => {
      picture.unmark();
      picture.overlay.focus({preventScroll: true}); // nothing is left to clear, so the button cannot keep the focus
    });
    this.count = make('span', {role: 'status'});
    const size = make('select', {change: event => { picture.brush = Number(event.target.value); }},
      make('option', {value: 1}, 'one region'), make('option', {value: 3}, '3 × 3 regions'));
    this.tools = part('div', 'tools', {hidden: true},
      make('label', {}, make('span', {}, 'Brush'), size), this.again, this.clear, this.count,
      note('Draw over the photograph to mark what is to be blurred. Begin on a marked region to bring it back.'));
    this.element = part('div', 'eraser', {}, this.toggle, this.tools);
    this.show();
  }

  mode(erase) {
    this.picture.mode(erase);
    this.toggle.setAttribute('aria-pressed', erase);
    this.tools.hidden = !erase;
    if (erase) this.toggled();
  }

  show() {
    const marked = this.picture.marked.size;
    this.again.disabled = this.clear.disabled = !marked;
    this.count.textContent = `${marked || 'no'} ${marked === 1 ? 'region' : 'regions'} marked`;
  }
}

/** What a region that was asked about says for and against the words. */
class Answer {
  constructor(part, leave) {
    this.leave = leave;
    this.element = part('div', 'asked', {'aria-live': 'polite', hidden: true});
  }

  show(words, region, map) {
    this.element.hidden = region === null;
    if (region === null) {
      this.element.replaceChildren();
      return;
    }
    const {row, column} = map.place(region);
    const support = words.map(word => ({text: word.text, value: word.regions[region]}))
      .filter(({value}) => Math.abs(value) >= LEAST_SHOWN)
      .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    const list = (name, title, found) => make('div', {hidden: !found.length},
      make('h4', {}, title),
      make('ol', {class: `explorer-${name}`},
        ...found.map(({text, value}) => make('li', {}, `${text} `, make('data', {value}, signed(value))))));
    this.element.replaceChildren(
      make('h3', {}, `Row ${row + 1}, column ${column + 1} `, push('Leave', this.leave)),
      list('supports', 'Supports', support.filter(({value}) => value > 0)),
      list('contradicts', 'Speaks against', support.filter(({value}) => value < 0)),
      make('p', {hidden: support.length > 0}, 'This region adds next to nothing to any word.'));
  }
}

/** One word in plain words and numbers. */
class Detail {
  #thumbnails = [];
  #shown = null;

  constructor(part, {settings, look, choose, tested}) {
    Object.assign(this, {settings, look, choose, tested});
    this.element = part('div', 'word-detail', {});
  }

  show(version, index) {
    const {words, grid} = version.data;
    const word = words[index];
    this.#shown = {version, word};
    this.#thumbnails = word ? this.#layers(word, grid) : [];
    if (!word) {
      this.element.replaceChildren();
      return;
    }
    // That the map does not hold is said where it is tested.
    const about = version.findings?.signatures
      .filter(({name, words: found}) => name !== 'misaligned attention' && found.includes(index)) ?? [];
    this.element.replaceChildren(
      make('h2', {}, `“${word.text}” `, make('small', {}, `word ${index + 1} of ${words.length}`)),
      ...about.map(signature => make('p', {class: 'explorer-notice'}, signature.text)),
      make('div', {class: 'explorer-sections'},
        this.#section('How sure', ...this.#alternatives(word, index)),
        this.#section('How its score adds up', ...adding(word)),
        this.#section('Does it need the photograph?', make('p', {}, reliance(word))),
        this.#test(word, version, index),
        this.#section('From coarse to fine',
          note('Where attention lay in each layer, and what came of it. Choose one to see it large.'),
          make('div', {class: 'explorer-thumbnails'}, ...this.#thumbnails.map(each => each.button)))),
      note('The map shows only what the regions add to the score directly. Part of the language score comes from the '
        + 'photograph too and is not in the map; image reliance measures both together.'));
    this.redraw();
  }

  /** Draw the small maps again, after the photograph has come or a setting has changed. */
  redraw() {
    for (const {source, map, button, canvas} of this.#thumbnails) {
      button.setAttribute('aria-pressed', source.key === this.settings.source);
      const {photograph} = this.#shown.version;
      if (!photograph.decoded) continue;
      const small = photograph.overlay(map, this.settings, Math.min(photograph.width, 160));
      canvas.width = small.width;
      canvas.height = small.height;
      canvas.getContext('2d').drawImage(small, 0, 0);
    }
  }

  #section(title, ...content) {
    return make('section', {}, make('h3', {}, title), ...content);
  }

  #layers(word, grid) {
    return Source.all(word.layers.length).map(source => {
      const canvas = make('canvas', {'aria-hidden': 'true'});
      const button = push(canvas, () => this.look(source.key));
      button.append(make('span', {}, source.name));
      return {source, map: source.map(word, grid), button, canvas};
    });
  }

  #alternatives(word, index) {
    const ending = word.ending >= 0.01 ? [[null, word.ending]] : [];
    const others = [...word.alternatives, ...ending].sort(([, first], [, second]) => second - first);
    const rows = others.map(([text, probability]) => {
      const bar = share(text ?? '(the end of the caption)', probability);
      if (!this.choose || text === null) return make('li', {}, bar);
      const label = `${text}, ${percent(probability)}: continue the caption with it from here`;
      return make('li', {}, push(bar, () => this.choose(index, text), {'aria-label': label}));
    });
    const hint = this.choose
      ? 'What it might have said instead; choose one to continue the caption with it from here.'
      : 'What it might have said instead stands below the word.';
    const likelier = others.some(([, probability]) => probability > word.probability);
    return [
      make('ol', {class: 'explorer-alternatives'},
        make('li', {class: 'explorer-emitted'}, share(word.text, word.probability)), ...rows),
      note(hint),
      likelier ? note('A caption is chosen as a whole, and words that you gave are kept: a word need not be the '
        + 'likeliest at its place.') : null,
    ];
  }

  #test(word, {tested, findings}, index) {
    const title = 'Is the map right?';
    const occlusion = findings?.occlusions[index];
    if (!occlusion) {
      const text = tested ? 'This could not be tested. Caption the photograph again to try once more.' : 'Testing …';
      return tested || this.tested ? this.#section(title, make('p', {}, text)) : null;
    }
    const {whole, hidden, random} = occlusion;
    const least = 0.01 * whole; // a smaller difference is none, as captioner.signatures takes it
    const holds = whole - hidden >= least && random - hidden >= least;
    const alike = Math.abs(random - hidden) < least;
    const said = !alike && percent(hidden) === percent(random) ? finely : percent;
    const verdict = holds ? 'The map holds' : alike ? 'It makes no difference here' : 'The map does not hold here';
    return this.#section(title,
      make('div', {class: 'explorer-test'},
        share('its strongest fifth blurred', hidden, said), share('a random fifth blurred', random, said)),
      make('p', {class: holds ? null : 'explorer-notice'}, `${verdict}: with the fifth of the photograph that it names strongest blurred, “${word.text}” `
        + `goes from ${percent(whole)} to ${said(hidden)}; with as many random regions blurred, `
        + `to ${said(random)}.`));
  }
}

/** A bar as long as a probability, with its name and number in it. */
function share(text, probability, said = percent) {
  return make('span', {class: 'explorer-bar', style: {'--part': probability}},
    make('span', {}, text), make('span', {}, said(probability)));
}

/** A word's score as a stacked bar about zero, and as a table: the parts and what they come to. */
function adding({bias, language, regions, logit}) {
  const parts = [
    ['bias', 'How common the word is (bias)', bias],
    ['language', 'The sentence so far (language)', language],
    ['regions', 'The regions of the photograph (the map)', sum(regions)],
  ];
  const least = sum(parts.map(([, , value]) => Math.min(value, 0)));
  const most = sum(parts.map(([, , value]) => Math.max(value, 0)));
  const at = value => `${100 * (value - least) / (most - least || 1)}%`;
  const ends = [0, 0]; // of the bar to the left and to the right of zero
  const blocks = parts.map(([name, , value]) => {
    const side = value < 0 ? 0 : 1;
    const from = ends[side];
    ends[side] += value;
    const [left, right] = [from, ends[side]].sort((a, b) => a - b);
    return make('i', {class: `explorer-${name}`, style: {left: at(left), width: `calc(${at(right)} - ${at(left)})`}});
  });
  const row = (name, title, value) => make('tr', {class: `explorer-${name}`},
    make('th', {scope: 'row'}, title), make('td', {}, make('data', {value}, signed(value))));
  return [
    make('div', {class: 'explorer-sum', 'aria-hidden': 'true'}, ...blocks,
      make('b', {class: 'explorer-zero', style: {left: at(0)}}),
      make('b', {class: 'explorer-total', style: {left: at(logit)}})),
    make('table', {}, ...parts.map(each => row(...each)), row('logit', 'Score (logit)', logit)),
  ];
}

/** Image reliance as a sentence: what the word's probability would be without the photograph. */
function reliance({text, probability, reliance: value}) {
  const unseen = value >= 0 ? probability * (1 - value) : Math.min(1, probability / Math.max(1 + value, 1e-9));
  const change = percent(probability) === percent(unseen) ? 'just as the' : 'instead of';
  return `With a plain colour in place of the photograph, “${text}” would have ${percent(unseen)}, `
    + `${change} ${percent(probability)}: image reliance ${relied(value)}.`;
}

/** Which words of two captions are the same, by their longest common subsequence: two arrays of booleans. */
function common(words, others) {
  const longest = Array.from({length: words.length + 1}, () => new Array(others.length + 1).fill(0));
  for (let i = words.length - 1; i >= 0; i--) {
    for (let j = others.length - 1; j >= 0; j--) {
      longest[i][j] = words[i] === others[j]
        ? longest[i + 1][j + 1] + 1
        : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const [kept, keptToo] = [words, others].map(each => each.map(() => false));
  for (let i = 0, j = 0; i < words.length && j < others.length;) {
    if (words[i] === others[j]) kept[i++] = keptToo[j++] = true;
    else if (longest[i + 1][j] >= longest[i][j + 1]) i++;
    else j++;
  }
  return [kept, keptToo];
}

/** How likely a caption is against another of the same photograph. */
function likely({log_probability: one}, {log_probability: other}) {
  const ratio = Math.exp(one - other);
  return ratio >= 0.01 ? `${ratio.toFixed(2)} times as likely` : 'less than 0.01 times as likely';
}

/** What a change did: the caption before and after it; after erasing, also what became of the words before. */
class Comparison {
  constructor(part) {
    this.element = part('section', 'comparison', {'aria-label': 'Before and after', hidden: true});
  }

  show(version, before) {
    this.element.hidden = !before;
    if (!before) return;
    const [old, now] = [before, version].map(each => each.data.words);
    const [kept, keptToo] = common(...[old, now].map(words => words.map(word => word.text)));
    const line = (words, same, changed) => words.flatMap((word, i) => [
      i && !word.joined ? ' ' : '', same[i] ? word.text : make(changed, {}, word.text),
    ]);
    const after = version.comparison.probabilities;
    this.element.replaceChildren(
      make('p', {}, make('span', {}, 'before'), ' ', ...line(old, kept, 'del'), '.'),
      make('p', {}, make('span', {}, 'now'), ' ', ...line(now, keptToo, 'ins'), '.'),
      ...(after ? [
        make('h3', {}, 'How likely the words before have become'),
        make('ul', {}, ...old.map((word, i) =>
          make('li', {}, make('b', {}, word.text), ` ${percent(word.probability)} → ${percent(after[i])}`))),
      ] : [note(`The caption now is ${likely(version.data, before.data)} as the one before.`)]));
  }
}

/** The whole: builds itself in an element and keeps every version of a caption. */
class Explorer {
  #versions = [];
  #number = 0; // of the version shown
  #savers = []; // buttons that save files, which wait while something is computed
  #asked = null; // a region
  #on;

  constructor(root, {ids = false, actions = [], on = () => {}} = {}) {
    const part = (tag, name, attributes, ...children) =>
      make(tag, {class: `explorer-${name}`, id: ids && WITH_IDS.includes(name) && name, ...attributes}, ...children);
    this.root = root;
    this.#on = on;
    this.settings = new Settings(part, () => this.#redraw());
    this.caption = new Caption(part, index => this.#choose(index));
    this.steps = new Steps(part, by => this.#choose(this.#version.chosen + by), again => this.#advance(again));
    this.picture = new Picture(part, {
      settings: this.settings,
      ask: region => this.#ask(region === this.#asked ? null : region),
      erasing: () => this.eraser.show(),
      say: text => { this.said.textContent = text; },
    });
    this.eraser = new Eraser(part, this.picture, {
      toggled: () => { this.steps.stop(); this.#ask(null); },
      erase: regions => this.#emit('erase', {regions}),
    });
    this.answer = new Answer(part, () => {
      this.#ask(null);
      this.picture.overlay.focus({preventScroll: true}); // the button is gone
    });
    this.detail = new Detail(part, {
      settings: this.settings,
      look: source => { this.settings.choose(source); this.#redraw(); },
      choose: actions.includes('choose') ? (position, word) => this.#emit('choose', {position, word}) : null,
      tested: actions.length > 0, // without actions there is nobody who could test
    });
    this.comparison = new Comparison(part);
    this.unfamiliar = part('p', 'unfamiliar', {role: 'status', hidden: true});
    this.versions = part('div', 'versions', {role: 'group', 'aria-label': 'Captions so far', hidden: true});
    this.hint = part('p', 'hint', {},
      'The caption appears here. Each of its words shows which regions of the photograph it came from.');
    this.key = part('p', 'key', {hidden: true},
      part('span', 'key-colour', {}, 'more colour'), ': relies more on the photograph; ',
      part('span', 'key-line', {}, 'thicker line'), ': surer');
    this.signatures = part('div', 'signatures', {});
    this.others = part('div', 'others', {});
    this.said = part('p', 'said', {'aria-live': 'polite'});
    this.status = part('p', 'status', {role: 'status', hidden: true});
    this.alert = part('p', 'alert', {role: 'alert', hidden: true});
    this.body = part('div', 'body', {hidden: true},
      part('div', 'look', {}, this.steps.element, this.picture.element, this.answer.element,
        actions.includes('erase') ? this.eraser.element : null, this.settings.element,
        actions.includes('export') ? this.#downloads(part) : null),
      this.detail.element);
    root.classList.add('explorer');
    root.addEventListener('keydown', event => this.#key(event));
    root.replaceChildren(this.unfamiliar, this.versions, this.caption.element, this.hint, this.key, this.signatures,
      this.comparison.element, this.body, this.others, part('div', 'messages', {}, this.status, this.alert), this.said);
  }

  /** Show the caption of a new photograph, and drop the versions of the last one. */
  show(data, {word = null} = {}) {
    this.#versions = [];
    this.picture.clear();
    this.#receive(data, {label: 'first caption', comparison: null, word});
  }

  /** Show a further version of the caption; `comparison`: what erasing did to the words of an earlier version. */
  add(data, {label, comparison = null, word = null}) {
    this.#receive(data, {label, comparison, word});
    this.caption.element.scrollIntoView({block: 'nearest'});
  }

  /** What testing a version found; null where it could not be tested. */
  test(number, findings) {
    Object.assign(this.#versions[number], {tested: true, findings});
    if (number !== this.#number) return;
    this.#warn();
    this.#turn(this.#version.chosen);
    this.said.textContent = findings ? 'The maps of this caption have been tested.' : 'The maps could not be tested.';
  }

  /** Say what is being computed; null when nothing is. */
  busy(text) {
    this.status.hidden = !text;
    this.status.textContent = text ?? '';
    this.root.setAttribute('aria-busy', Boolean(text));
    for (const button of this.#savers) button.setAttribute('aria-disabled', Boolean(text));
    if (text) this.tell('');
  }

  /** Say what went wrong. */
  tell(text) {
    this.alert.hidden = !text;
    this.alert.textContent = text;
  }

  get #version() {
    return this.#versions[this.#number];
  }

  #emit(name, detail) {
    this.tell('');
    this.#on(name, {version: this.#number, ...detail});
  }

  #receive(data, {label, comparison, word}) {
    const version = {
      number: this.#versions.length,
      data,
      label,
      comparison,
      findings: null,
      photograph: new Photograph(data.photograph),
      chosen: word ?? Math.max(0, data.words.findIndex(each => each.content)),
    };
    this.#versions.push(version);
    version.photograph.ready.then(() => { if (version === this.#version) this.detail.redraw(); });
    this.#open(version.number);
    this.said.textContent = `${version.number ? `Caption ${version.number + 1}` : 'Caption'}: ${data.text}. ${this.picture.text}`;
  }

  /** Turn to a version. */
  #open(number) {
    this.#number = number;
    this.steps.stop();
    this.tell('');
    const {data, comparison, chosen} = this.#version;
    this.picture.marked.clear();
    this.eraser.mode(false);
    this.eraser.show();
    this.hint.textContent = 'Choose a word, or step with the arrow keys. '
      + 'Click on the photograph to see which words a region supports.';
    this.key.hidden = this.body.hidden = false;
    this.unfamiliar.hidden = !data.unfamiliar;
    this.unfamiliar.textContent = data.unfamiliar
      ? 'This photograph is unlike those the model learnt from, so its words may be wrong. '
        + `Of the photographs it was tested on, ${percent(data.familiarity)} are this unusual.`
      : '';
    this.#list();
    this.settings.offer(data.words[0]?.layers.length ?? 0);
    this.caption.show(data.words);
    this.comparison.show(this.#version, comparison && this.#versions[comparison.version]);
    this.#considered(data);
    this.#warn();
    this.#ask(null);
    this.#turn(chosen);
  }

  /** A button for every version. */
  #list() {
    const focused = this.versions.contains(document.activeElement);
    const buttons = this.#versions.map(({label, number, data}) => push(label, () => this.#open(number), {
      'aria-pressed': `${number === this.#number}`, title: data.text,
    }));
    this.versions.hidden = buttons.length < 2;
    this.versions.replaceChildren(...buttons);
    if (focused) buttons[this.#number].focus();
  }

  /** Turn to a word that a person chose. */
  #choose(index) {
    this.steps.stop();
    this.#step(index);
    const word = this.#version.data.words[index];
    this.said.textContent = `“${word.text}”, ${percent(word.probability)}. ${this.picture.text}`;
  }

  #step(index) {
    this.#turn(index);
    this.#on('select', {version: this.#number, index});
  }

  /** While playing: turn to the next word, or to the first one where playing begins at the end. */
  #advance(begin) {
    const {chosen, data} = this.#version;
    const last = data.words.length - 1;
    if (!begin) this.#step(chosen + 1);
    else if (chosen === last) this.#step(0);
    return this.#version.chosen < last;
  }

  #turn(index) {
    const {data} = this.#version;
    const focused = document.activeElement;
    this.#version.chosen = index;
    this.caption.mark(index);
    this.steps.mark(index, data.words.length);
    const lost = this.root.contains(focused)
      && (focused.disabled || this.detail.element.contains(focused) || this.caption.element.contains(focused));
    this.picture.show(this.#version, index, this.#asked);
    this.detail.show(this.#version, index);
    if (lost) this.caption.buttons[index].focus({preventScroll: true});
  }

  #redraw() {
    this.picture.show(this.#version, this.#version.chosen, this.#asked);
    this.detail.redraw();
  }

  #ask(region) {
    this.#asked = region;
    const {words, grid} = this.#version.data;
    if (region !== null) this.steps.stop();
    this.caption.support(region === null ? null : words.map(word => word.regions[region]));
    this.answer.show(words, region, new RegionMap([], grid));
    this.picture.show(this.#version, this.#version.chosen, region);
  }

  /** Signatures of several words, or of the caption as a whole; those of one word stand beside it. */
  #warn() {
    const found = this.#version.findings?.signatures ?? [];
    const whole = found.filter(signature => signature.name === 'caption drift' || signature.words.length > 1);
    this.signatures.replaceChildren(...whole.map(signature => make('p', {class: 'explorer-notice'}, signature.text)));
  }

  #considered(data) {
    this.others.replaceChildren(...(data.others.length ? [
      make('h3', {}, 'Other captions it considered'),
      make('ol', {},
        ...data.others.map(other => make('li', {}, `${other.text} `, make('small', {}, likely(other, data))))),
    ] : []));
  }

  #downloads(part) {
    const kinds = {
      json: 'JSON', report: 'report', png: 'PNG figure', pdf: 'PDF figure', gif: 'animation', zip: 'all of them (ZIP)',
    };
    // One file at a time: who clicks while one is made sees that it is being made.
    const save = kind => { if (this.status.hidden) this.#emit('export', {kind, colour_map: this.settings.colours}); };
    this.#savers = Object.entries(kinds).map(([kind, name]) => push(name, () => save(kind)));
    return part('div', 'downloads', {role: 'group', 'aria-label': 'Save'}, make('span', {}, 'Save as'), ...this.#savers);
  }

  #key(event) {
    if (!this.#version || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.key === 'Escape' && (this.#asked !== null || this.picture.erase)) {
      event.preventDefault();
      this.eraser.mode(false);
      this.#ask(null);
    }
    if (event.target.closest('input, select, textarea, .explorer-overlay')) return;
    const {chosen, data} = this.#version;
    const index = {ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: data.words.length - 1}[event.key];
    if (index === undefined) return;
    event.preventDefault();
    if (index !== chosen && data.words[index]) this.#choose(index);
  }
}
