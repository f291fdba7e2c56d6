// The small pictures by which dashboards are known in lists.
import { ApiError, type Schemas } from "../api/client";

const WIDTH = 320;
const HEIGHT = 200;
const MOST = 39_000; // characters of a data URL that the API takes

/** Where the picture of a dashboard is; another address with each version, so that no old one is shown. */
export const pictureOf = (one: Pick<Schemas["DashboardOut"], "space" | "id" | "version">) => `/api/v1/spaces/${one.space}/dashboards/${one.id}/thumbnail?version=${one.version}`;

/** A picture that somebody chose, cut to the shape of a card and small enough to be kept with a dashboard. */
export async function shrunk(file: Blob, fault: string): Promise<string> {
  let image: ImageBitmap;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new ApiError(422, "invalid", fault);
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const scale = Math.max(WIDTH / image.width, HEIGHT / image.height);
  const [width, height] = [image.width * scale, image.height * scale];
  const paper = canvas.getContext("2d");
  if (paper) paper.fillStyle = "#fff"; // a JPEG knows no transparency
  paper?.fillRect(0, 0, WIDTH, HEIGHT);
  paper?.drawImage(image, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
  image.close();
  for (const quality of [0.85, 0.6, 0.35]) {
    const data = canvas.toDataURL("image/jpeg", quality);
    if (data.length <= MOST) return data;
  }
  throw new ApiError(422, "invalid", fault);
}
