import * as THREE from "/lib/three.js";

const canvas = document.getElementById("scene");
const renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: true });
const scene = new THREE.Scene();
const camera = new THREE.PerspectiveCamera(40, 1, 0.1, 50);
camera.position.set(3, 2.2, 4);
camera.lookAt(0, 0, 0);
const paint = new THREE.MeshStandardMaterial({ color: "#1f5fa8" });
const body = new THREE.Mesh(new THREE.BoxGeometry(2, 0.3, 1.2), paint);
body.add(new THREE.AxesHelper(1.6));
scene.add(body, new THREE.HemisphereLight("#ffffff", "#556677", 2.5));

function draw() {
  const { data, config } = cloister;
  if (data && typeof data.w === "number") body.quaternion.set(data.x, data.y, data.z, data.w).normalize();
  else if (data) body.rotation.set(...["pitch", "yaw", "roll"].map((name) => (Number(data[name]) || 0) * Math.PI / 180), "YXZ");
  paint.color.set(config.color || "#1f5fa8");
  renderer.setSize(innerWidth, innerHeight, false);
  camera.aspect = innerWidth / Math.max(1, innerHeight);
  camera.updateProjectionMatrix();
  renderer.render(scene, camera);
}
addEventListener("resize", draw);
cloister.onDataChanged(draw);
cloister.onConfigChanged(draw);
