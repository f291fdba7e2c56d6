declare module "topojson-client" {
  export function feature(topology: never, object: never): unknown;
}
