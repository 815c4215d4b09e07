"use strict";
// The page around viewer.js: elements, controls, what is drawn when.

// Points and ground pictures by WebGL; null where there is none.
function makeGL(canvas) {
  const gl = canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) return null;
  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text); gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    return made;
  };
  // u d, v d, d and a depth of its own for the order of things.
  const place = `uniform vec4 r0, r1, r2; uniform vec2 size; uniform float flat_; vec4 put(vec3 p) { vec4 h = vec4(p, 1.0); float d = dot(r2, h);
    float z = flat_ > 0.5 ? -p.z / 500.0 * d : (d * (1000.2 / 999.8)) - 2.0 * 1000.0 * 0.2 / 999.8;
    return vec4(2.0 * dot(r0, h) / size.x - d, d - 2.0 * dot(r1, h) / size.y, z, d); }`;
  const points = program(`attribute vec3 p; attribute vec3 c; uniform float dot_; varying vec3 colour; ${place} void main() { gl_Position = put(p); gl_PointSize = dot_; colour = c; }`, "precision mediump float; varying vec3 colour; void main() { gl_FragColor = vec4(colour, 1.0); }");
  const ground = program(`attribute vec3 p; attribute vec2 t; varying vec2 at; ${place} void main() { gl_Position = put(p); at = t; }`, "precision mediump float; varying vec2 at; uniform sampler2D image; void main() { vec4 c = texture2D(image, at); if (c.a < 0.5) discard; gl_FragColor = vec4(c.rgb, 1.0); }");
  const attribute = (made, name, data, type, width, normal) => {
    const at = gl.getAttribLocation(made, name), buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(at); gl.vertexAttribPointer(at, width, type, normal, 0, 0);
    return buffer;
  };
  const use = (made, matrix, orbit) => {
    gl.useProgram(made);
    for (let i = 0; i < 3; i++) gl.uniform4fv(gl.getUniformLocation(made, `r${i}`), matrix.slice(4 * i, 4 * i + 4));
    gl.uniform2f(gl.getUniformLocation(made, "size"), canvas.width, canvas.height);
    gl.uniform1f(gl.getUniformLocation(made, "flat_"), orbit.flat ? 1 : 0);
  };
  return {
    clear(colour) { gl.viewport(0, 0, canvas.width, canvas.height); gl.enable(gl.DEPTH_TEST); gl.clearColor(...colour.map((v) => v / 255), 1); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT); },
    points(data, colours, matrix, orbit, dot) {
      use(points, matrix, orbit);
      gl.uniform1f(gl.getUniformLocation(points, "dot_"), dot);
      const made = [attribute(points, "p", data.xyz, gl.FLOAT, 3, false), attribute(points, "c", colours, gl.UNSIGNED_BYTE, 3, true)];
      gl.drawArrays(gl.POINTS, 0, data.count);
      made.forEach((b) => gl.deleteBuffer(b));
    },
    ground(raster, z, matrix, orbit) {
      use(ground, matrix, orbit);
      if (!raster.texture) {
        raster.texture = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, raster.texture);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, raster.image);
        for (const [key, value] of [[gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE], [gl.TEXTURE_MIN_FILTER, gl.NEAREST], [gl.TEXTURE_MAG_FILTER, gl.NEAREST]]) gl.texParameteri(gl.TEXTURE_2D, key, value);
      }
      gl.bindTexture(gl.TEXTURE_2D, raster.texture);
      const [x0, x1] = raster.x_m, [y0, y1] = raster.y_m;
      const made = [attribute(ground, "p", new Float32Array([x0, y0, z, x1, y0, z, x0, y1, z, x1, y1, z]), gl.FLOAT, 3, false), attribute(ground, "t", new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.FLOAT, 2, false)];
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      made.forEach((b) => gl.deleteBuffer(b));
    },
  };
}

function start(page) {
  const find = (id) => document.getElementById(id), root = document.documentElement.style;
  for (const [name, colour] of Object.entries(page.tones)) root.setProperty(`--${name}`, css(colour));
  const player = new Player(page.frames.length, page.fps), gl = makeGL(find("gl")), hidden = new Set();
  const overview = () => ({ target: [0, 0, page.ground_m], azimuth: page.forward_rad, elevation: 1.5, distance: page.range_m, flat: true });
  let orbit = overview(), mode = page.point_color, tiles = [], wanted = 0;

  function layout() {
    find("cameras").replaceChildren(...page.rows.map((row) => {
      const line = document.createElement("div");
      line.className = "row";
      for (const index of row) {
        const tile = document.createElement("div"), image = new Image(), canvas = document.createElement("canvas"), name = document.createElement("span");
        tile.className = "camera"; name.textContent = page.cameras[index];
        image.addEventListener("load", () => drawCamera(index));
        tile.append(image, canvas, name); line.append(tile);
        tiles[index] = { image, canvas };
      }
      return line;
    }));
    const names = ["points", ...new Set(page.frames.flatMap((f) => [...f.layers.map((l) => l.name), ...f.ground.map((g) => g.name), ...(f.tracks.length ? ["tracks"] : [])]))];
    for (const name of names) {
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox"; box.checked = true;
      box.addEventListener("change", () => { box.checked ? hidden.delete(name) : hidden.add(name); draw(); });
      label.append(box, ` ${name} `); find("layers").append(label);
    }
    for (const name of ["height", "intensity", "camera", "distance"]) find("colour").append(new Option(name, name, false, name === mode));
    legend();
  }

  function legend() {
    const used = new Set(page.frames.flatMap((f) => f.layers.filter((l) => l.by_class).flatMap((l) => l.boxes.map((b) => b[9]))));
    const item = (style, kind, text) => { const span = document.createElement("span"), mark = document.createElement("i"); mark.className = kind; mark.style.background = style; span.append(mark, text); return span; };
    const items = page.classes.map((c, i) => [c, i]).filter(([, i]) => used.has(i)).map(([c]) => item(css(c.colour), "swatch", c.name));
    if (page.frames.some((f) => f.layers.some((l) => !l.by_class))) items.push(item("repeating-linear-gradient(90deg,#fff 0 5px,transparent 5px 9px)", "ramp", "ground truth"));
    if (mode !== "camera") items.push(item(`linear-gradient(90deg,${page.ramp.map(css).join(",")})`, "ramp", `points by ${mode}${mode === "height" ? `, ${page.height_m.join(" to ")} m above ground` : mode === "distance" ? `, 0 to ${page.range_m} m` : ""}`));
    for (const words of ["line from the middle: heading", "arrow: velocity, way of 1 s"]) items.push(item("none", "", words));
    for (const name of new Set(page.frames.flatMap((f) => f.notes))) items.push(item("none", "", name));
    find("legend").replaceChildren(...items);
  }

  function drawCamera(index) {
    const { image, canvas } = tiles[index], frame = page.frames[player.at];
    if (!image.naturalWidth) return;
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const size = { width: canvas.width, height: canvas.height, scale: canvas.width / 480 }, ctx = canvas.getContext("2d");
    ctx.clearRect(0, 0, size.width, size.height);
    const matrix = frame.matrices[index].map((v, i) => (i < 4 ? v * size.width : i < 8 ? v * size.height : v));
    const layers = frame.layers.filter((l) => !hidden.has(l.name));
    for (const layer of layers) drawBoxes(ctx, matrix, layer, page, size, NEAR_M, false);
    for (const layer of layers.filter((l) => l.by_class)) drawCaptions(ctx, matrix, layer, page, size, NEAR_M);
  }

  async function show() {
    const frame = page.frames[player.at], asked = ++wanted;
    find("title").textContent = `${frame.scene} ${frame.token}`;
    find("scrub").value = player.at;
    find("clock").textContent = `${player.at + 1} / ${page.frames.length}`;
    frame.images.forEach((data, index) => { tiles[index].image.src = data; });
    if (!frame.points && frame.packed) frame.points = unpackPoints(await inflate(frame.packed), frame.count, page.step_m);
    for (const raster of frame.ground) {
      if (raster.image) continue;
      const image = new Image();
      image.src = raster.data;
      await image.decode();
      raster.image = image;  // not before: whatever is drawn meanwhile leaves it out
    }
    if (asked === wanted) draw();
  }

  function draw() {
    const frame = page.frames[player.at], canvas = find("lines"), density = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    for (const c of [canvas, find("gl")]) { c.width = Math.max(Math.round(box.width * density), 1); c.height = Math.max(Math.round(box.height * density), 1); }
    const size = { width: canvas.width, height: canvas.height, scale: density }, ctx = canvas.getContext("2d"), matrix = orbitMatrix(orbit, size.width, size.height);
    const near = orbit.flat ? 0.5 : NEAR_M;
    drawSolid(frame, matrix, ctx, size, near);
    drawRings(ctx, matrix, size, near);
    if (!hidden.has("tracks")) drawTracks(ctx, matrix, frame.tracks, page, size, near);
    for (const layer of frame.layers.filter((l) => !hidden.has(l.name))) drawBoxes(ctx, matrix, layer, page, size, near, true);
    drawMesh(ctx, matrix, page.vehicle, near);
    drawMarks(ctx, frame.marks, matrix, size, near);
    find("counts").textContent = frame.layers.map((l) => counted(l, page.score)).join(", ");
    tiles.forEach((_, index) => drawCamera(index));
  }

  function drawSolid(frame, matrix, ctx, size, near) {
    const colours = frame.points && pointColours(frame.points, mode, page), shown = frame.points && !hidden.has("points");
    if (gl) {
      gl.clear(page.tones.ground);
      frame.ground.forEach((raster, i) => { if (raster.image && !hidden.has(raster.name)) gl.ground(raster, page.ground_m - 0.1 + 0.02 * i, matrix, orbit); });
      if (shown) gl.points(frame.points, colours, matrix, orbit, 1.6 * size.scale);
      return;
    }
    for (let i = 0; shown && i < frame.points.count; i++) {
      const h = apply(matrix, frame.points.xyz.subarray(3 * i, 3 * i + 3));
      if (h[2] < near) continue;
      ctx.fillStyle = css([colours[3 * i], colours[3 * i + 1], colours[3 * i + 2]]);
      ctx.fillRect(h[0] / h[2], h[1] / h[2], 1.5, 1.5);
    }
  }

  function drawRings(ctx, matrix, size, near) {
    ctx.strokeStyle = css(page.tones.grid); ctx.fillStyle = css(page.tones.muted); ctx.lineWidth = 1;
    ctx.font = `${Math.round(12 * size.scale)}px system-ui,sans-serif`;
    for (const radius of page.rings_m) {
      ctx.beginPath();
      const at = (k) => apply(matrix, [radius * Math.cos(k * Math.PI / 45), radius * Math.sin(k * Math.PI / 45), page.ground_m]);
      for (let k = 0; k < 90; k++) { const s = clipSegment(at(k), at(k + 1), size.width, size.height, near); if (s) { ctx.moveTo(...s[0]); ctx.lineTo(...s[1]); } }
      ctx.stroke();
      const h = apply(matrix, [radius * Math.cos(page.forward_rad - 2.36), radius * Math.sin(page.forward_rad - 2.36), page.ground_m]);
      if (h[2] >= near) ctx.fillText(`${radius} m`, h[0] / h[2], h[1] / h[2]);
    }
  }

  function drawMarks(ctx, marks, matrix, size, near) {
    ctx.fillStyle = css(page.mark);
    for (const p of marks) {
      const h = apply(matrix, p);
      if (h[2] >= near) { ctx.beginPath(); ctx.arc(h[0] / h[2], h[1] / h[2], 4 * size.scale, 0, 7); ctx.fill(); }
    }
  }

  function controls() {
    const view = find("view"), redraw = () => { find("play").textContent = player.playing ? "pause" : "play"; show(); };
    const free = () => { orbit = { target: [0, 0, page.ground_m], azimuth: page.forward_rad, elevation: 0.5, distance: page.range_m * 0.8, flat: false }; draw(); };
    const top = () => { orbit = overview(); draw(); };
    find("back").onclick = () => { player.step(-1); redraw(); };
    find("next").onclick = () => { player.step(1); redraw(); };
    find("play").onclick = () => { player.toggle(performance.now() / 1000); redraw(); };
    find("scrub").max = page.frames.length - 1;
    find("scrub").oninput = (e) => { player.seek(Number(e.target.value)); redraw(); };
    find("colour").onchange = (e) => { mode = e.target.value; legend(); draw(); };
    find("score").value = page.score; find("scoretext").textContent = page.score;
    find("score").oninput = (e) => { page.score = Number(e.target.value); find("scoretext").textContent = page.score; draw(); };
    find("top").onclick = top; find("free").onclick = free;
    document.addEventListener("keydown", (e) => {
      const keys = { " ": () => find("play").click(), ArrowRight: () => find("next").click(), ArrowLeft: () => find("back").click(), Home: () => { player.seek(0); redraw(); }, End: () => { player.seek(page.frames.length - 1); redraw(); }, t: top, T: top };
      if (keys[e.key] && !/SELECT|INPUT/.test(e.target.tagName)) { e.preventDefault(); keys[e.key](); }
    });
    view.addEventListener("contextmenu", (e) => e.preventDefault());
    view.addEventListener("pointerdown", (e) => view.setPointerCapture(e.pointerId));
    view.addEventListener("pointermove", (e) => {
      if (!e.buttons) return;
      const ca = Math.cos(orbit.azimuth), sa = Math.sin(orbit.azimuth), scale = orbit.distance / view.clientHeight * (orbit.flat ? 2 : 1);
      if (e.shiftKey || e.buttons === 2) {
        orbit.target[0] -= scale * (e.movementX * sa - e.movementY * ca); orbit.target[1] -= scale * (-e.movementX * ca - e.movementY * sa);
      } else { if (orbit.flat) { orbit.flat = false; orbit.elevation = 1.5; } orbit.azimuth -= e.movementX * 0.006; orbit.elevation = Math.min(Math.max(orbit.elevation + e.movementY * 0.006, 0.02), 1.55); }
      draw();
    });
    view.addEventListener("wheel", (e) => { e.preventDefault(); orbit.distance = Math.min(Math.max(orbit.distance * Math.exp(e.deltaY * 0.001), 2), 500); draw(); }, { passive: false });
    window.addEventListener("resize", draw);
    const loop = (now) => { if (player.tick(now / 1000)) redraw(); requestAnimationFrame(loop); };
    requestAnimationFrame(loop);
  }

  layout(); controls(); show();
}

start(JSON.parse(document.getElementById("data").textContent));
