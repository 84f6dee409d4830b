// What the other parts share: the data of the page, and how elements are made. Text is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const boards = new Map(data.boards.map((board) => [board.id, board]));
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function printed(value, decimals) {
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text;
}
