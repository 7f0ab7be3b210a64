// From an image of any size to what the network takes, to the pixel what `allmlp.preprocess.fit` gives.
//
// Pillow's resampling in 8 bits: a separable filter, widened when an image is made smaller; weights in fixed point with 22
// bits; the result of the first pass is rounded to bytes. Everything is exact in the doubles of JavaScript.

const PRECISION = 2 ** 22;

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: cubic },
};

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// For each of `out` positions: the first of the `from` values that it sees, and their weights.
function coefficients(from, out, { support, weight }) {
  const scale = from / out;
  const widened = Math.max(scale, 1);
  const reach = support * widened;
  const found = [];
  for (let position = 0; position < out; position++) {
    const centre = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = [];
    let total = 0;
    for (let k = first; k < end; k++) {
      const value = weight((k - centre + 0.5) * (1 / widened));
      weights.push(value);
      total += value;
    }
    found.push({
      first,
      weights: weights.map((value) => {
        const share = total === 0 ? value : value / total;
        return Math.trunc((share < 0 ? -0.5 : 0.5) + share * PRECISION);
      }),
    });
  }
  return found;
}

const clip = (sum) => Math.min(255, Math.max(0, Math.floor(sum / PRECISION)));

// rgb: Uint8Array height * width * 3. Resizes the width; a transposition around it resizes the height.
function resizeRows(rgb, height, width, out, filter) {
  if (width === out) return rgb;
  const result = new Uint8Array(height * out * 3);
  const taps = coefficients(width, out, filter);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < out; column++) {
      const { first, weights } = taps[column];
      let red = PRECISION / 2, green = PRECISION / 2, blue = PRECISION / 2;
      let at = (row * width + first) * 3;
      for (const weight of weights) {
        red += weight * rgb[at];
        green += weight * rgb[at + 1];
        blue += weight * rgb[at + 2];
        at += 3;
      }
      const to = (row * out + column) * 3;
      result[to] = clip(red);
      result[to + 1] = clip(green);
      result[to + 2] = clip(blue);
    }
  }
  return result;
}

function transpose(rgb, height, width) {
  const result = new Uint8Array(rgb.length);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const from = (row * width + column) * 3;
      const to = (column * height + row) * 3;
      result[to] = rgb[from];
      result[to + 1] = rgb[from + 1];
      result[to + 2] = rgb[from + 2];
    }
  }
  return result;
}

// Where each of `out` positions looks; the sum goes step by step, as Pillow's, whose rounding decides ties.
function steps(from, out) {
  const step = from / out;
  const found = [];
  for (let at = step * 0.5; found.length < out; at += step) found.push(Math.trunc(at));
  return found;
}

function nearest(rgb, height, width, outHeight, outWidth) {
  const result = new Uint8Array(outHeight * outWidth * 3);
  const columns = steps(width, outWidth);
  let to = 0;
  for (const y of steps(height, outHeight)) {
    for (const x of columns) {
      const from = (y * width + x) * 3;
      result[to++] = rgb[from];
      result[to++] = rgb[from + 1];
      result[to++] = rgb[from + 2];
    }
  }
  return result;
}

export function resize({ rgb, height, width }, outHeight, outWidth, interpolation) {
  if (height === outHeight && width === outWidth) return { rgb, height, width };
  if (interpolation === "nearest") {
    return { rgb: nearest(rgb, height, width, outHeight, outWidth), height: outHeight, width: outWidth };
  }
  const filter = FILTERS[interpolation];
  let found;
  if (height > outHeight && height - outHeight > 2 * (width - outWidth)) {
    // Pillow 13's own choice, by what is faster; rounding in between makes it matter.
    const low = transpose(resizeRows(transpose(rgb, height, width), width, height, outHeight, filter), width, outHeight);
    found = resizeRows(low, outHeight, width, outWidth, filter);
  } else {
    const narrow = transpose(resizeRows(rgb, height, width, outWidth, filter), height, outWidth);
    found = transpose(resizeRows(narrow, outWidth, height, outHeight, filter), outWidth, outHeight);
  }
  return { rgb: found, height: outHeight, width: outWidth };
}

// Python's round(): halves go to the even number.
function round(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

// [width, height] that an image is resized to before the central crop.
function resizedSize(width, height, { image_size: [outHeight, outWidth], resize: mode, crop_ratio: ratio }) {
  if (mode === "squash") return [outWidth, outHeight];
  const boxWidth = Math.floor(outWidth / ratio + 1e-6);
  const boxHeight = Math.floor(outHeight / ratio + 1e-6);
  if (mode === "squash_crop") return [boxWidth, boxHeight];
  if (boxWidth * height >= boxHeight * width) return [boxWidth, Math.trunc((boxWidth * height) / width)];
  return [Math.trunc((boxHeight * width) / height), boxHeight];
}

// image: {rgb, height, width}; preprocess: the value of that name in model.json. Returns {rgb, height, width} of the
// network's size.
export function fit(image, preprocess) {
  const [outHeight, outWidth] = preprocess.image_size;
  if (image.height === outHeight && image.width === outWidth) return image;
  const [width, height] = resizedSize(image.width, image.height, preprocess);
  const { rgb } = resize(image, height, width, preprocess.interpolation);
  const left = round((width - outWidth) / 2);
  const top = round((height - outHeight) / 2);
  const cropped = new Uint8Array(outHeight * outWidth * 3);
  for (let row = 0; row < outHeight; row++) {
    const from = ((row + top) * width + left) * 3;
    cropped.set(rgb.subarray(from, from + outWidth * 3), row * outWidth * 3);
  }
  return { rgb: cropped, height: outHeight, width: outWidth };
}

// What a canvas gives, four bytes a pixel and opaque, as three.
export function withoutAlpha({ data, height, width }) {
  const rgb = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { rgb, height, width };
}
