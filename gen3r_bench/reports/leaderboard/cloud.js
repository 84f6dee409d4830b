// A small point cloud that turns: no library, one z-buffer. Coordinates are those of the first camera: x right, y down,
// z forward, in half sides of the box; so the first picture is seen from near the first camera.
const LARGEST = 32767;
const START = { yaw: 0.35, pitch: -0.25, distance: 2.6 };

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function decoded(cloud) {
  const positions = new Int16Array(bytesOf(cloud.xyz).buffer);
  return { count: cloud.n, positions: Float32Array.from(positions, (value) => value / LARGEST), colours: bytesOf(cloud.rgb) };
}

class CloudView {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.clouds = [];
    this.view = { ...START };
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      this.turn((event.clientX - last[0]) * 0.01, (event.clientY - last[1]) * 0.01);
      last = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
    canvas.addEventListener("keydown", (event) => {
      const action = {
        ArrowLeft: () => this.turn(-0.12, 0), ArrowRight: () => this.turn(0.12, 0),
        ArrowUp: () => this.turn(0, -0.12), ArrowDown: () => this.turn(0, 0.12),
        "+": () => this.zoom(0.9), "=": () => this.zoom(0.9), "-": () => this.zoom(1.1), 0: () => this.reset(),
      }[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(clouds) {
    this.clouds = clouds;
    this.draw();
  }

  turn(yaw, pitch) {
    this.view.yaw += yaw;
    this.view.pitch = Math.max(-1.5, Math.min(1.5, this.view.pitch + pitch));
    this.draw();
  }

  zoom(factor) {
    this.view.distance = Math.max(1.2, Math.min(8, this.view.distance * factor));
    this.draw();
  }

  reset() {
    this.view = { ...START };
    this.draw();
  }

  draw() {
    const { canvas, context } = this;
    const density = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * density));
    const height = Math.max(1, Math.round(canvas.clientHeight * density));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const image = context.createImageData(width, height);
    const nearest = new Float32Array(width * height).fill(Infinity);
    for (const cloud of this.clouds) this.paint(cloud, image, nearest);
    context.putImageData(image, 0, 0);
  }

  paint(cloud, image, nearest) {
    const { width, height, data: pixels } = image;
    const { yaw, pitch, distance } = this.view;
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const focal = 1.7 * Math.min(width, height);
    const half = Math.max(1, Math.round(Math.min(width, height) / 130));
    for (let point = 0; point < cloud.count; point += 1) {
      const [x, y, z] = [cloud.positions[3 * point], cloud.positions[3 * point + 1], cloud.positions[3 * point + 2]];
      const turned = cy * x + sy * z;
      const ahead = -sy * x + cy * z;
      const depth = sp * y + cp * ahead + distance;
      if (depth < 0.1) continue;
      const column = Math.round(width / 2 + (focal * turned) / depth);
      const row = Math.round(height / 2 + (focal * (cp * y - sp * ahead)) / depth);
      for (let v = Math.max(0, row - half); v < Math.min(height, row + half); v += 1) {
        for (let u = Math.max(0, column - half); u < Math.min(width, column + half); u += 1) {
          const at = v * width + u;
          if (depth >= nearest[at]) continue;
          nearest[at] = depth;
          const colour = cloud.grey ? [150, 150, 156] : cloud.colours.subarray(3 * point, 3 * point + 3);
          pixels.set(colour, 4 * at);
          pixels[4 * at + 3] = cloud.grey ? 140 : 255;
        }
      }
    }
  }
}
