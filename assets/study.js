// The study's task in the page: what is shown, the answers, and the keys 1 to 5. It is given no map's source and no
// right answer. `element`, `props`, `trigger` and `watch` are those of gr.HTML; all text goes in as text.
const AGAIN = 10000; // milliseconds after which an answer that was lost on its way may be given again

function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function picture(shown, name) {
  const image = make('img', {src: shown.src, alt: name, width: shown.width, height: shown.height});
  return make('figure', {}, image, make('figcaption', {}, name));
}

function caption(words, marked) {
  const line = make('p', {class: 'study-caption'});
  words.forEach((word, position) => {
    if (position && !word.startsWith("'")) line.append(' ');
    line.append(position === marked ? make('mark', {}, word) : word);
  });
  return line;
}

function pair(task) {
  return {
    question: `Which map explains the word “${task.words[task.marked]}” better?`,
    shown: [
      caption(task.words, task.marked),
      make('div', {class: 'study-pictures study-pair'},
        picture(task.photograph, 'Photograph'), picture(task.maps[0], 'Map A'), picture(task.maps[1], 'Map B')),
    ],
    answers: [['study-left', 'Map A'], ['study-right', 'Map B'], ['study-same', 'Equally good'],
      ['study-neither', 'Neither']],
  };
}

function guess(task) {
  return {
    question: 'Which word does this map explain?',
    shown: [make('div', {class: 'study-pictures'}, picture(task.maps[0], 'Map'))],
    answers: [...task.choices.map((word, index) => [`study-guess-${index + 1}`, `“${word}”`]),
      ['study-unknown', 'Cannot tell']],
  };
}

function progress(task, done) {
  return [
    make('p', {id: 'study-progress', role: 'status'}, `${done ? task.total : task.number} of ${task.total}`),
    make('progress', {value: task.number - 1, max: task.total, 'aria-label': 'Tasks answered'}),
  ];
}

function answer(task, choice) {
  const buttons = [...element.querySelectorAll('.study-answers button')];
  for (const button of buttons) button.disabled = true;
  setTimeout(() => { for (const button of buttons) button.disabled = false; }, AGAIN);
  trigger('select', {token: task.token, choice});
}

function show() {
  const task = props.value;
  element.replaceChildren();
  if (!task) return;
  if (task.kind === 'finished') {
    const thanks = make('h2', {tabindex: '-1'}, 'Thank you. You have answered every task.');
    element.append(...progress(task, true), thanks, make('p', {}, 'You may look at the results below.'));
    thanks.focus();
    return;
  }
  const {question, shown, answers} = (task.kind === 'pair' ? pair : guess)(task);
  const heading = make('h2', {tabindex: '-1'}, question);
  const group = make('div', {class: 'study-answers', role: 'group', 'aria-label': 'Answers'});
  answers.forEach(([id, text], choice) => {
    const button = make('button', {id, type: 'button'}, make('kbd', {'aria-hidden': 'true'}, `${choice + 1}`), text);
    button.addEventListener('click', () => answer(task, choice));
    group.append(button);
  });
  const keys = make('p', {class: 'study-keys'}, `The keys 1 to ${answers.length} answer too.`);
  element.append(...progress(task, false), heading, ...shown, group, keys);
  heading.focus();
}

function onKey(event) {
  // Gradio builds the element anew whenever its tab comes into view.
  if (!element.isConnected) { document.removeEventListener('keydown', onKey); return; }
  const elsewhere = event.target.closest?.('input, textarea, select, [contenteditable="true"]');
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || elsewhere || !/^[1-5]$/.test(event.key)) return;
  const button = element.querySelectorAll('.study-answers button')[Number(event.key) - 1];
  if (button?.checkVisibility()) button.click();
}

document.addEventListener('keydown', onKey);
watch('value', show);
show();
