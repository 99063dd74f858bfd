// Drawing the avatar on this machine: its bundle, the modules that draw it, and whether they keep up.
// The modules are those of the web avatar (`being export --web`).

const MODULES = "web-avatar-modules/";
const SIDES = [64, 2048]; // px of the canvas
const WINDOW = 3000; // ms over which drawn frames are counted
const LEAST = 0.6; // share of the frames that must be drawn
const PATIENCE = 2; // windows in a row with fewer; then this machine is too slow

/** Whether this page can draw an avatar: it needs WebGL2, and a decoder for the plates. */
export function canDraw() {
  return (
    typeof VideoDecoder !== "undefined" &&
    typeof DecompressionStream !== "undefined" &&
    Boolean(document.createElement("canvas").getContext("webgl2"))
  );
}

/** Draws the frames of one avatar. */
export class Drawing {
  /** Load the avatar from the address of its bundle. Throws where it cannot be drawn. */
  static async open(address) {
    const module = (name) => import(new URL(MODULES + name, document.baseURI));
    const [{ loadBundle }, { Renderer }, { Plates }] = await Promise.all(
      ["bundle.js", "renderer.js", "plates.js"].map(module),
    );
    const bundle = await loadBundle(address);
    const plates = new Plates(bundle.manifest.plates, bundle.plates, bundle.picture);
    await plates.get(0);
    return new Drawing(bundle, plates, Renderer);
  }

  constructor(bundle, plates, Renderer) {
    Object.assign(this, { bundle, plates, Renderer });
    this.renderer = null;
    this.pose = 0; // of the newest frame that is known
    this.shown = null; // pose of the plate that is shown
    this.pace = new Pace();
  }

  /** A frame will be drawn soon: have its plate decoded. */
  prepare(pose) {
    this.plates.take(pose, Math.sign(pose - this.pose) || 1);
    this.pose = pose;
  }

  /** Draw a frame on the stage. */
  draw({ pose, coefficients }, stage) {
    if (!this.renderer || this.renderer.canvas !== stage.canvas) this.begin(stage);
    const { canvas } = stage;
    const natural = canvas.clientWidth * (globalThis.devicePixelRatio || 1);
    const side = Math.round(natural || this.bundle.manifest.size);
    const fitting = Math.min(Math.max(side, SIDES[0]), SIDES[1]);
    if (canvas.width !== fitting) canvas.width = canvas.height = fitting;

    // Where a plate is not decoded yet, the last one stays.
    const plate = pose === this.shown ? null : this.plates.take(pose, 0);
    if (plate) {
      this.renderer.setPlate(plate);
      this.shown = pose;
    }
    if (this.renderer.lost) return;
    this.renderer.place(coefficients, this.bundle.cameras.subarray(16 * pose, 16 * pose + 16));
    this.renderer.draw();
    this.pace.drawn += 1;
  }

  begin(stage) {
    this.renderer?.close();
    stage.replace();
    stage.canvas.parentElement.style.setProperty("--ratio", 1);
    this.renderer = new this.Renderer(stage.canvas, this.bundle.scene);
    if (this.bundle.background) this.renderer.setBackground(this.bundle.background);
    this.shown = null;
  }

  /** Stop drawing; it can begin again. */
  rest() {
    this.renderer?.close();
    this.renderer = null;
    this.pace = new Pace();
  }
}

/** Compares the frames that are drawn with those that come. */
export class Pace {
  constructor() {
    this.drawn = this.came = this.late = 0;
    this.since = null;
  }

  /** Whether this machine is too slow. now: ms; visible: whether anybody sees the page. */
  tooSlow(now, visible) {
    if (this.since === null || !visible) {
      Object.assign(this, { since: now, drawn: 0, came: 0 });
      return false;
    }
    if (now - this.since < WINDOW) return false;
    const slow = this.came > 0 && this.drawn < LEAST * this.came;
    this.late = slow ? this.late + 1 : 0;
    Object.assign(this, { since: now, drawn: 0, came: 0 });
    return this.late >= PATIENCE;
  }
}
