// Images whose patches or pixels have changed places; and images with one patch covered.

// Numbers in [0, 1) that follow from a seed (mulberry32), so that the same slider gives the same disorder.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// A permutation of 0 .. count - 1 in which `share` (0 to 1) of the places change among themselves. The places that change
// at a smaller share change at a larger one too.
export function permutation(count, share, seed) {
  const draw = random(seed);
  const order = Array.from({ length: count }, (_, k) => k);
  const mixed = (values) => {
    for (let k = values.length - 1; k > 0; k--) {
      const other = Math.floor(draw() * (k + 1));
      [values[k], values[other]] = [values[other], values[k]];
    }
    return values;
  };
  const places = mixed([...order]).slice(0, Math.round(share * count));
  const moved = mixed([...places]);
  places.forEach((place, k) => { order[place] = moved[k]; });
  return order;
}

// `what`: "patches" change places whole; "pixels" change places inside every patch, in all alike; "all": pixels anywhere.
export function shuffled(image, [patchHeight, patchWidth], what, share, seed = 1) {
  if (share === 0) return image;
  const { rgb, height, width } = image;
  const columns = width / patchWidth, tokens = (height / patchHeight) * columns, inside = patchHeight * patchWidth;
  const place = (token, pixel) => {
    const row = Math.floor(token / columns) * patchHeight + Math.floor(pixel / patchWidth);
    return row * width + (token % columns) * patchWidth + (pixel % patchWidth);
  };
  const result = new Uint8Array(rgb.length);
  const copy = (to, from) => { for (let c = 0; c < 3; c++) result[3 * to + c] = rgb[3 * from + c]; };
  if (what === "all") {
    permutation(height * width, share, seed).forEach((from, to) => copy(to, from));
  } else {
    const ofTokens = permutation(tokens, what === "patches" ? share : 0, seed);
    const ofPixels = permutation(inside, what === "pixels" ? share : 0, seed);
    for (let token = 0; token < tokens; token++) {
      for (let pixel = 0; pixel < inside; pixel++) copy(place(token, pixel), place(ofTokens[token], ofPixels[pixel]));
    }
  }
  return { rgb: result, height, width };
}

// One image for each patch, in raster order, in which it is grey.
export function covered({ rgb, height, width }, [patchHeight, patchWidth], grey = 128) {
  const images = [];
  for (let top = 0; top < height; top += patchHeight) {
    for (let left = 0; left < width; left += patchWidth) {
      const image = rgb.slice();
      for (let row = top; row < top + patchHeight; row++) {
        image.fill(grey, 3 * (row * width + left), 3 * (row * width + left + patchWidth));
      }
      images.push(image);
    }
  }
  return images;
}
