// Who is here, what they are in which space, and what the installation is called.
import { computed, reactive, watch } from "vue";
import { api, ApiError, must, type Schemas } from "../api/client";
import { i18n } from "../i18n";

export const session = reactive({
  ready: false,
  platform: null as Schemas["PlatformOut"] | null,
  person: null as Schemas["PersonOut"] | null,
  memberships: [] as Schemas["MembershipOut"][],
  operator: false,
  expired: false,
});

export const signedIn = computed(() => session.person !== null);

export function membership(space: string): Schemas["MembershipOut"] | undefined {
  return session.memberships.find((one) => one.space.slug === space);
}

/** Whether somebody has one of some roles in a space. */
export function hasRole(space: string, ...roles: string[]): boolean {
  return session.operator || (membership(space)?.roles ?? []).some((role) => roles.includes(role));
}

/** The same without what operators may besides: some things are the roles' alone. */
export function isRole(space: string, ...roles: string[]): boolean {
  return (membership(space)?.roles ?? []).some((role) => roles.includes(role));
}

export function teamOf(space: string): string | null {
  return membership(space)?.enrolment?.team ?? null;
}

/** Under what something of one's own is kept in this browser, which may be others' as well. */
export const ownKey = (name: string) => `mine:${session.person?.number ?? ""}:${name}`;

/** Forget what a person left in this browser. */
function forgetOwn(): void {
  const own = ownKey("");
  for (const key of Object.keys(localStorage)) if (key.startsWith(own)) localStorage.removeItem(key);
}

export async function refresh(): Promise<void> {
  session.platform ??= await must(api.GET("/api/v1/platform"));
  try {
    const now = await must(api.GET("/api/v1/me"));
    if (session.person !== null && session.person.number !== now.number) {
      location.assign("/home"); // somebody else signed in over this page: nothing of it is theirs to see
      return;
    }
    const back = session.expired;
    session.person = now;
    if (back) setTimeout(() => window.dispatchEvent(new CustomEvent("cloister:signed-in")));
    const mine = await must(api.GET("/api/v1/me/spaces"));
    session.memberships = mine.items;
    session.operator = mine.operator;
    session.expired = false;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    session.person = null;
    session.memberships = [];
    session.operator = false;
  }
  session.ready = true;
}

/** While a page waits for a sign-in in another window: whether it is done. Nothing of who was here is touched before. */
export async function signedInAgain(): Promise<void> {
  try {
    await must(api.GET("/api/v1/me"));
  } catch (error) {
    if (error instanceof ApiError) return; // not yet
    throw error;
  }
  await refresh();
}

export async function signOut(): Promise<void> {
  await must(api.POST("/api/v1/auth/sign-out"));
  forgetOwn();
  sessionStorage.clear();
  session.person = null;
  session.memberships = [];
  session.operator = false;
}

/** Letters are written in the language that somebody reads here. */
watch([() => session.person?.number, i18n.global.locale], async ([number, language]) => {
  if (!number || session.person?.language === language) return;
  const answer = await api.PUT("/api/v1/me/language", { body: { language } }).catch(() => undefined); // at the next visit, then
  if (answer?.data && session.person) session.person.language = answer.data.language;
});

window.addEventListener("cloister:signed-out", () => {
  if (session.person !== null) session.expired = true;
});
