// A pad to draw on, white on black, with mouse, finger, pen or keyboard.

const PEN = 22; // of 256 pixels
const STEP = 8;

export function pad(canvas, changed) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let last = null;
  let pen = { x: canvas.width / 2, y: canvas.height / 2, down: false };

  function clear() {
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    pen = { x: canvas.width / 2, y: canvas.height / 2, down: false };
  }

  function line(from, to) {
    Object.assign(context, { strokeStyle: "#fff", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
    changed();
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * canvas.width) / box.width, y: ((event.clientY - box.top) * canvas.height) / box.height };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    line(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === null) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const next = at(part);
      line(last, next);
      last = next;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });

  const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) line(pen, pen);
    } else if (event.key in MOVES) {
      const [x, y] = MOVES[event.key];
      const next = { ...pen, x: Math.min(canvas.width, Math.max(0, pen.x + x)), y: Math.min(canvas.height, Math.max(0, pen.y + y)) };
      if (pen.down) line(pen, next);
      pen = next;
    } else {
      return;
    }
    event.preventDefault();
  });
  clear();
  return { clear };
}
