"use strict";
// Shows the frames that the page holds. Boxes, tracks and labels are lines on a 2D canvas, points and pictures on the
// ground are drawn by WebGL, or on the 2D canvas where there is none. Everything is in the frames' reference frame, m.
// A view is a 3x4 matrix, row by row, that takes (x, y, z, 1) to (u d, v d, d): px and m.

const EDGES = [[0,1],[1,2],[2,3],[3,0],[4,5],[5,6],[6,7],[7,4],[0,4],[1,5],[2,6],[3,7]];
const NEAR_M = 0.2;

function apply(matrix, p) {
  const row = (r) => matrix[4 * r] * p[0] + matrix[4 * r + 1] * p[1] + matrix[4 * r + 2] * p[2] + matrix[4 * r + 3];
  return [row(0), row(1), row(2)];
}

// Both ends of a segment in px, cut off before the near plane and at the picture's sides; null where nothing is left.
function clipSegment(a, b, width, height, near) {
  let from = 0, to = 1;
  for (const distance of [(h) => h[2] - near, (h) => h[0], (h) => width * h[2] - h[0], (h) => h[1], (h) => height * h[2] - h[1]]) {
    const da = distance(a), db = distance(b);
    if (da < 0 && db < 0) return null;
    if (da < 0) from = Math.max(from, da / (da - db));
    else if (db < 0) to = Math.min(to, da / (da - db));
  }
  if (from >= to) return null;
  const at = (t) => { const h = a.map((v, i) => v + t * (b[i] - v)); return [h[0] / h[2], h[1] / h[2]]; };
  return [at(from), at(to)];
}

// Eight corners of a box [x, y, z, l, w, h, yaw, ...]: bottom then top; front left, front right, rear right, rear left.
function corners(box) {
  const [x, y, z, l, w, h, yaw] = box, c = Math.cos(yaw), s = Math.sin(yaw), out = [];
  for (const dz of [-h / 2, h / 2])
    for (const [dx, dy] of [[l / 2, w / 2], [l / 2, -w / 2], [-l / 2, -w / 2], [-l / 2, w / 2]])
      out.push([x + c * dx - s * dy, y + s * dx + c * dy, z + dz]);
  return out;
}

function cross(a, b) { return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]; }
function dot(a, b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
function unit(a) { const n = Math.hypot(...a) || 1; return a.map((v) => v / n); }

// The matrix of an orbit {target, azimuth, elevation, distance, flat} for a canvas; flat looks straight down in parallel.
function orbitMatrix(orbit, width, height) {
  const ca = Math.cos(orbit.azimuth), sa = Math.sin(orbit.azimuth);
  if (orbit.flat) {
    const scale = Math.min(width, height) / 2 / orbit.distance, t = orbit.target;
    const right = [sa, -ca, 0], up = [ca, sa, 0];
    const row = (axis, sign, middle) => [sign * scale * axis[0], sign * scale * axis[1], 0, middle - sign * scale * dot(axis, t)];
    return [...row(right, 1, width / 2), ...row(up, -1, height / 2), 0, 0, 0, 1];
  }
  const ce = Math.cos(orbit.elevation), se = Math.sin(orbit.elevation);
  const forward = [ca * ce, sa * ce, -se], right = [sa, -ca, 0], down = cross(forward, right);
  const eye = orbit.target.map((v, i) => v - orbit.distance * forward[i]);
  const focal = Math.min(width, height);  // about 53 degrees
  const rows = [right, down, forward].map((axis) => [...axis, -dot(axis, eye)]);
  const mix = (axis, middle) => rows[axis].map((v, i) => focal * v + middle * rows[2][i]);
  return [...mix(0, width / 2), ...mix(1, height / 2), ...rows[2]];
}

function ramp(stops, position) {
  const at = Math.min(Math.max(position || 0, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((v, k) => Math.round(v + (at - i) * (stops[i + 1][k] - v)));
}

// (P, 3) bytes of colour of a frame's points by what their colours shall mean.
function pointColours(points, mode, page) {
  if (mode === "camera") return points.rgb;
  const out = new Uint8Array(points.rgb.length), table = [];
  for (let i = 0; i < 256; i++) table.push(ramp(page.ramp, i / 255));
  const [low, high] = page.height_m;
  for (let i = 0; i < out.length / 3; i++) {
    const x = points.xyz[3 * i], y = points.xyz[3 * i + 1], z = points.xyz[3 * i + 2];
    let share = mode === "height" ? (z - page.ground_m - low) / (high - low) : mode === "distance" ? Math.hypot(x, y) / page.range_m : points.intensity[i] / 255;
    out.set(table[Math.round(255 * Math.min(Math.max(share, 0), 1))], 3 * i);
  }
  return out;
}

// Bytes of a frame's points, (P, 3) int16 steps, then (P,) intensities, then (P, 3) colours, little endian.
function unpackPoints(bytes, count, step) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), xyz = new Float32Array(3 * count);
  if (bytes.byteLength !== 10 * count) throw new Error(`points: ${bytes.byteLength} bytes, expected ${10 * count}`);
  for (let i = 0; i < 3 * count; i++) xyz[i] = view.getInt16(2 * i, true) * step;
  return { count, xyz, intensity: bytes.subarray(6 * count, 7 * count), rgb: bytes.subarray(7 * count) };
}

async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function counted(layer, score) {
  const count = layer.boxes.filter((b) => !layer.scores || b[10] >= score).length;
  return layer.scores ? `${count} ${layer.name}${count === 1 ? "" : "s"}` : `${count} ${layer.name} box${count === 1 ? "" : "es"}`;
}

function css(colour) { return `rgb(${colour.join(",")})`; }

// Boxes of one layer on a 2D canvas. A layer by class has filled fronts, wedges and captions; else thin dashed lines.
function drawBoxes(ctx, matrix, layer, page, size, near, above) {
  for (const box of layer.boxes) {
    if (layer.scores && box[10] < page.score) continue;
    const at = corners(box), seen = at.map((p) => apply(matrix, p));
    ctx.strokeStyle = ctx.fillStyle = css(layer.by_class ? page.classes[box[9]].colour : page.truth);
    ctx.lineWidth = (layer.by_class ? 2 : 1.2) * size.scale;
    ctx.setLineDash(layer.by_class ? [] : [5 * size.scale, 4 * size.scale]);
    ctx.beginPath();
    const line = (a, b) => { const s = clipSegment(a, b, size.width, size.height, near); if (s) { ctx.moveTo(...s[0]); ctx.lineTo(...s[1]); } };
    for (const [a, b] of EDGES) line(seen[a], seen[b]);
    const middle = above ? [4, 5, 6, 7] : [0, 1, 2, 3], mean = (ids) => apply(matrix, [0, 1, 2].map((k) => ids.reduce((v, i) => v + at[i][k], 0) / ids.length));
    line(mean(middle), mean(middle.slice(0, 2)));
    ctx.stroke();
    const face = above ? [[4, 5, 6, 7], 0.25] : [[0, 1, 5, 4], 0.3];
    if (layer.by_class && face[0].every((i) => seen[i][2] > near)) {
      ctx.globalAlpha = face[1];
      ctx.beginPath();
      for (const i of face[0]) ctx.lineTo(seen[i][0] / seen[i][2], seen[i][1] / seen[i][2]);
      ctx.fill();
      ctx.globalAlpha = 1;
    }
    if (above) drawVelocity(ctx, matrix, box, size, near);
  }
  ctx.setLineDash([]);
}

// Triangles from the farthest to the nearest: [corner, corner, corner, colour].
function drawMesh(ctx, matrix, triangles, near) {
  const seen = triangles.map(([a, b, c, colour]) => ({ at: [a, b, c].map((p) => apply(matrix, p)), colour })).filter((t) => t.at.every((h) => h[2] > near));
  const depth = (t) => t.at[0][2] + t.at[1][2] + t.at[2][2];
  for (const { at, colour } of seen.sort((a, b) => depth(b) - depth(a))) {
    ctx.fillStyle = ctx.strokeStyle = css(colour);
    ctx.lineWidth = 0.7;  // closes the seams between neighbours
    ctx.beginPath();
    for (const h of at) ctx.lineTo(h[0] / h[2], h[1] / h[2]);
    ctx.closePath(); ctx.fill(); ctx.stroke();
  }
}

function drawVelocity(ctx, matrix, box, size, near) {
  const speed = Math.hypot(box[7], box[8]);
  if (!(speed > 0.5)) return;
  const z = box[2] + box[5] / 2, s = clipSegment(apply(matrix, [box[0], box[1], z]), apply(matrix, [box[0] + box[7], box[1] + box[8], z]), size.width, size.height, near);
  if (!s) return;
  const [a, b] = s, angle = Math.atan2(b[1] - a[1], b[0] - a[0]), head = 8 * size.scale;
  ctx.setLineDash([]);
  ctx.beginPath(); ctx.moveTo(...a); ctx.lineTo(...b); ctx.stroke();
  ctx.beginPath(); ctx.moveTo(...b);
  for (const turn of [2.7, -2.7]) ctx.lineTo(b[0] + head * Math.cos(angle + turn), b[1] + head * Math.sin(angle + turn));
  ctx.fill();
}

function drawTracks(ctx, matrix, tracks, page, size, near) {
  for (const track of tracks) {
    ctx.strokeStyle = css(page.classes[track.label].colour);
    ctx.lineWidth = 2 * size.scale;
    for (let i = 0; i + 1 < track.path.length; i++) {
      const s = clipSegment(apply(matrix, track.path[i]), apply(matrix, track.path[i + 1]), size.width, size.height, near);
      ctx.globalAlpha = 0.3 + 0.7 * (i + 1) / track.path.length;
      if (s) { ctx.beginPath(); ctx.moveTo(...s[0]); ctx.lineTo(...s[1]); ctx.stroke(); }
    }
    ctx.globalAlpha = 1;
  }
}

function caption(box, layer, page) {
  const name = page.classes[box[9]].name;
  return box[11] !== null && layer.scores ? `${name} #${box[11]}` : layer.scores ? `${name} ${box[10].toFixed(2)}` : name;
}

// Captions above boxes by class, nearest first, none over another.
function drawCaptions(ctx, matrix, layer, page, size, near) {
  const taken = [], items = layer.boxes.filter((b) => !layer.scores || b[10] >= page.score).map((b) => [apply(matrix, [b[0], b[1], b[2] + b[5] / 2]), b]);
  items.sort((a, b) => a[0][2] - b[0][2]);
  ctx.font = `${Math.round(13 * size.scale)}px system-ui,sans-serif`;
  for (const [h, box] of items) {
    if (h[2] < near) continue;
    const text = caption(box, layer, page), w = ctx.measureText(text).width + 6, tall = 17 * size.scale;
    const x = h[0] / h[2] - w / 2, y = h[1] / h[2] - tall - 2;
    if (x < 0 || y < 0 || x + w > size.width || y + tall > size.height) continue;
    if (taken.some((t) => x < t[0] + t[2] && t[0] < x + w && y < t[1] + tall && t[1] < y + tall)) continue;
    taken.push([x, y, w]);
    const colour = page.classes[box[9]].colour;
    ctx.fillStyle = css(colour); ctx.fillRect(x, y, w, tall);
    ctx.fillStyle = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 115 ? "#080a0e" : "#fff";
    ctx.fillText(text, x + 3, y + tall * 0.77);
  }
}

// Which frame is shown, and whether it plays: as bev/viz/player.py.
class Player {
  constructor(count, fps) { this.count = count; this.fps = fps; this.at = 0; this.playing = false; this.due = 0; }
  step(by) { this.playing = false; this.at = (((this.at + by) % this.count) + this.count) % this.count; }
  seek(to) { this.playing = false; this.at = Math.min(Math.max(Math.round(to), 0), this.count - 1); }
  toggle(now) { this.playing = !this.playing && this.count > 1; this.due = now + 1 / this.fps; }
  tick(now) {
    if (!this.playing || now < this.due) return false;
    this.at = (this.at + 1) % this.count;
    this.due = Math.max(this.due + 1 / this.fps, now);
    return true;
  }
}

if (typeof module !== "undefined") module.exports = { apply, clipSegment, corners, orbitMatrix, ramp, pointColours, unpackPoints, drawMesh, Player };
