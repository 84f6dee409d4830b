// The scenes of a table, one at a time: pictures of every row, a point cloud, and the scene's scores. A page from disk
// may not fetch files, so a scene's script hands its content over, and pictures are plain images.
const dialog = byId("scenes");
const sceneChoice = byId("scene-choice");
const frameChoice = byId("frame");
const cloudChoice = byId("cloud-choice");
const cloudTruth = byId("cloud-truth");
const TRUTH = "ground truth";
const loaded = new Map();
const waiting = new Map();
let board = null;
let content = null;
let cloudView = null;

window.gen3rBenchScene = (sceneId, found) => {
  const script = document.currentScript;
  const name = script ? script.dataset.name : "";
  loaded.set(name, found);
  waiting.get(name)?.(found);
};

function load(name) {
  if (loaded.has(name)) return Promise.resolve(loaded.get(name));
  return new Promise((resolve) => {
    waiting.set(name, resolve);
    const script = element("script", { src: `${data.assets}/${name}` });
    script.dataset.name = name;
    script.addEventListener("error", () => resolve(null));
    document.head.append(script);
  });
}

function shot(file, label, row) {
  const box = element("div", { className: "shot" });
  if (!file) {
    box.append(element("span", { className: "none" }, "none"));
  } else {
    const image = element("img", { src: `${data.assets}/${file}`, decoding: "async" });
    image.dataset.label = `${row}: ${label}`;
    box.append(element("div", { className: "window" }, image));
  }
  box.append(element("span", { className: "what" }, label));
  return box;
}

function showFrame() {
  const number = Number(frameChoice.value);
  const frames = content ? content.frames : [0];
  const name = content ? `${frames[number]} of ${content.of - 1}` : "";
  byId("frame-name").textContent = name;
  frameChoice.setAttribute("aria-valuetext", `frame ${name}`);
  for (const image of byId("shots").querySelectorAll("img")) {
    image.style.width = `${100 * frames.length}%`;
    image.style.transform = `translateX(${(-100 * number) / frames.length}%)`;
    image.alt = `${image.dataset.label}, frame ${name}`;
  }
}

function rowsShown() {
  // in the table's order; boards of one set of scenes share their pictures, and not every board has every row
  const byRow = new Map(content.rows.map((row) => [row.row, row]));
  return board.rows.map((row) => byRow.get(row.label)).filter((row) => row);
}

function showPictures() {
  const shots = byId("shots");
  shots.replaceChildren();
  byId("shots-legend").hidden = !content;
  frameChoice.closest("label").hidden = !content;
  byId("scene-prompt").textContent = content && content.prompt ? `Prompt: ${content.prompt}` : "";
  if (!content) return;
  frameChoice.max = content.frames.length - 1;
  if (frameChoice.dataset.touched !== "yes") frameChoice.value = Math.floor(content.frames.length / 2);
  const rows = rowsShown();
  if (content.truth) {
    const trio = element("div", { className: "trio" }, shot(content.truth.rgb, "frame", TRUTH));
    trio.append(shot(content.truth.depth, "depth", TRUTH));
    shots.append(element("figure", {}, element("figcaption", {}, TRUTH), trio));
  }
  for (const row of rows) {
    const floor = board.rows.find((known) => known.label === row.row).kind !== "method";
    const figure = element("figure", floor ? { className: "floor" } : {}, element("figcaption", {}, row.row));
    if (row.why) figure.append(element("p", {}, `No pictures: ${row.why}.`));
    else {
      const kinds = [["prediction", row.rgb], ["error", row.error], ["depth", row.depth]];
      figure.append(element("div", { className: "trio" }, ...kinds.map(([label, file]) => shot(file, label, row.row))));
    }
    shots.append(figure);
  }
  showFrame();
}

function showClouds() {
  const found = content ? rowsShown().filter((row) => row.cloud) : [];
  const truth = content && content.truth ? content.truth.cloud : null;
  byId("cloud-part").hidden = !found.length && !truth;
  const before = cloudChoice.value;
  cloudChoice.replaceChildren(
    ...found.map((row) => element("option", { value: row.cloud }, row.row)),
    ...(truth ? [element("option", { value: truth }, TRUTH)] : []),
  );
  const names = [...cloudChoice.options].map((option) => option.textContent);
  const again = names.indexOf(cloudChoice.dataset.name || "");
  cloudChoice.selectedIndex = again >= 0 ? again : 0;
  cloudTruth.closest("label").hidden = !truth;
  if (before || found.length || truth) showCloud();
}

function showCloud() {
  const option = cloudChoice.selectedOptions[0];
  if (!option || !content) return;
  cloudChoice.dataset.name = option.textContent;
  const chosen = content.clouds[option.value];
  const shown = [decoded(chosen)];
  const truth = content.truth && content.truth.cloud;
  if (truth && cloudTruth.checked && truth !== option.value) shown.push({ ...decoded(content.clouds[truth]), grey: true });
  cloudView = cloudView || new CloudView(byId("cloud"));
  cloudView.show(shown);
  byId("cloud").setAttribute("aria-label", `Point cloud of ${option.textContent}, ${chosen.n} points, seen from near the first camera.`);
}

function showScores(sceneNumber) {
  const scene = board.scenes[sceneNumber];
  const table = byId("scene-scores");
  const heads = board.columns.map((column) => element("th", { scope: "col" }, `${column.title} ${column.higher ? "↑" : "↓"}`));
  const lines = board.rows.map((row) => {
    const line = element("tr", row.kind === "method" ? {} : { className: "floor" }, element("th", { scope: "row" }, row.label));
    if (row.failures[scene]) {
      line.append(element("td", { colSpan: board.columns.length, className: "why" }, row.failures[scene]));
      return line;
    }
    board.columns.forEach((column, number) => {
      const value = row.scenes[number][sceneNumber];
      line.append(element("td", {}, value === null ? "–" : printed(value, column.decimals)));
    });
    return line;
  });
  const caption = element("caption", { className: "visually-hidden" }, `Scores of scene ${scene}`);
  table.replaceChildren(caption, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Row"), ...heads)), element("tbody", {}, ...lines));
}

async function showScene(number) {
  sceneChoice.selectedIndex = number;
  const scene = board.scenes[number];
  const shownBoard = board;
  byId("scenes-title").textContent = `${board.title} · ${scene}`;
  byId("scene-before").disabled = number === 0;
  byId("scene-after").disabled = number === board.scenes.length - 1;
  showScores(number);
  const name = board.pictures.scripts[scene];
  const found = name ? await load(name) : null;
  if (board !== shownBoard || sceneChoice.selectedIndex !== number) return; // the reader went on meanwhile
  content = found;
  const lost = name && !found ? "The pictures could not be loaded: is the folder “assets” beside this page?" : "";
  byId("scene-why").textContent = lost || board.pictures.why;
  showPictures();
  showClouds();
}

for (const button of document.querySelectorAll(".open-scenes")) {
  button.addEventListener("click", () => {
    board = boards.get(button.dataset.board);
    sceneChoice.replaceChildren(...board.scenes.map((scene) => element("option", { value: scene }, scene)));
    frameChoice.dataset.touched = "no";
    dialog.showModal();
    byId("scenes-title").focus();
    showScene(0);
  });
}

sceneChoice.addEventListener("change", () => showScene(sceneChoice.selectedIndex));
byId("scene-before").addEventListener("click", () => showScene(sceneChoice.selectedIndex - 1));
byId("scene-after").addEventListener("click", () => showScene(sceneChoice.selectedIndex + 1));
frameChoice.addEventListener("input", () => {
  frameChoice.dataset.touched = "yes"; // before, the middle frame is shown: the first one is often given
  showFrame();
});
cloudChoice.addEventListener("change", showCloud);
cloudTruth.addEventListener("change", showCloud);
byId("cloud-in").addEventListener("click", () => cloudView?.zoom(0.85));
byId("cloud-out").addEventListener("click", () => cloudView?.zoom(1.18));
byId("cloud-reset").addEventListener("click", () => cloudView?.reset());
byId("scenes-close").addEventListener("click", () => dialog.close());
