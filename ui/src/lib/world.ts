// The map of the world, loaded by the page that shows it: shapes by ISO 3166 number.
import { MapChart } from "echarts/charts";
import { GeoComponent } from "echarts/components";
import { feature } from "topojson-client";
import countries from "world-atlas/countries-110m.json";
import { echarts } from "./echarts";

echarts.use([MapChart, GeoComponent]);
interface Shape {
  id?: string;
  properties: { name: string };
  geometry: { type: string; coordinates: unknown };
}
type Ring = [number, number][];
const ANTARCTICA = "010";

/** A ring that goes over the edge of the map goes on beyond it, instead of all the way back. */
function unbroken(ring: Ring): Ring {
  const crosses = ring.some(([longitude], place) => place > 0 && Math.abs(longitude - (ring[place - 1] as [number, number])[0]) > 180);
  return crosses ? ring.map(([longitude, latitude]) => [longitude < 0 ? longitude + 360 : longitude, latitude]) : ring;
}

const all = feature(countries as never, (countries as unknown as { objects: { countries: never } }).objects.countries) as unknown as { features: Shape[] };
const shapes = { ...all, features: all.features.filter((one) => one.id !== ANTARCTICA) };
for (const one of shapes.features) {
  one.properties.name = one.id ?? one.properties.name;
  const polygons = one.geometry.type === "Polygon" ? [one.geometry.coordinates as Ring[]] : (one.geometry.coordinates as Ring[][]);
  one.geometry = { type: "MultiPolygon", coordinates: polygons.map((rings) => rings.map(unbroken)) };
}
echarts.registerMap("world", shapes as never);
