import { createRouter, createWebHistory } from "vue-router";
import Front from "./pages/Front.vue";
import Home from "./pages/Home.vue";
import SpacePage from "./pages/SpacePage.vue";
import { session, signedIn } from "./lib/session";

export const router = createRouter({
  history: createWebHistory(),
  scrollBehavior: (_to, _from, kept) => kept ?? { top: 0 },
  routes: [
    { path: "/", component: Front, beforeEnter: () => (signedIn.value ? "/home" : true) },
    { path: "/home", component: Home, meta: { person: true } },
    { path: "/signed-in", component: () => import("./pages/SignedIn.vue") },
    { path: "/sign-in", component: () => import("./pages/SignIn.vue") },
    { path: "/s/:space", component: SpacePage, props: true },
    { path: "/s/:space/register", component: () => import("./pages/Register.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/sign", component: () => import("./pages/Sign.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/data", component: () => import("./pages/Catalogue.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/data/:dataset", component: () => import("./pages/Dataset.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/sql", component: () => import("./pages/Sql.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/notebook", component: () => import("./pages/Notebook.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/dashboards", component: () => import("./pages/Dashboards.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/dashboards/:dashboard", component: () => import("./pages/Dashboard.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/people", component: () => import("./pages/People.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/teams", component: () => import("./pages/Teams.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/agreements", component: () => import("./pages/Agreements.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/settings", component: () => import("./pages/SpaceSettings.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/grants", component: () => import("./pages/Grants.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/audit", component: () => import("./pages/Audit.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/findings", component: () => import("./pages/Findings.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/capacity", component: () => import("./pages/Capacity.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/exports", component: () => import("./pages/Exports.vue"), props: true, meta: { person: true } },
    { path: "/s/:space/usage", component: () => import("./pages/Usage.vue"), props: true, meta: { person: true } },
    { path: "/modules", component: () => import("./pages/Modules.vue"), meta: { person: true } },
    { path: "/modules/:name", component: () => import("./pages/Module.vue"), props: true, meta: { person: true } },
    { path: "/modules/:name/edit", component: () => import("./pages/ModuleEditor.vue"), props: true, meta: { person: true } },
    { path: "/confirm", component: () => import("./pages/Confirm.vue"), meta: { person: true } },
    { path: "/account", component: () => import("./pages/Account.vue"), meta: { person: true } },
    { path: "/operator", component: () => import("./pages/Operator.vue"), meta: { person: true, operator: true } },
    { path: "/:rest(.*)", component: () => import("./pages/NotFound.vue") },
  ],
});

router.beforeEach((to) => {
  if (to.meta.person && session.person === null) return { path: "/sign-in", query: { to: to.fullPath } };
  if (to.meta.operator && !session.operator) return { path: "/home" }; // nothing there would answer
  return true;
});

// A page's script that is not there any more belongs to an earlier version of the application: begin with the new one.
router.onError((_, to) => {
  if (navigator.onLine) location.assign(to.fullPath);
});
