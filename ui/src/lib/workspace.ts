// A team's notebook: its state, kept fresh, and what one can do with it.
import { computed, onScopeDispose, watch } from "vue";
import { api, ApiError, must, type Schemas } from "../api/client";
import { useAction, useLoad } from "./load";

type Workspace = Schemas["WorkspaceOut"];

export function useWorkspace(space: string, team: string) {
  const path = { params: { path: { space, team } } };
  const loaded = useLoad<Workspace | null>(async () => {
    try {
      return await must(api.GET("/api/v1/spaces/{space}/teams/{team}/workspace", path));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }, 10_000);
  const state = computed(() => loaded.data.value?.state ?? "stopped");
  let soon: ReturnType<typeof setTimeout> | undefined;
  watch([state, loaded.data], () => {
    clearTimeout(soon);
    if (["starting", "stopping"].includes(state.value)) soon = setTimeout(() => void loaded.load(), 700);
  });
  onScopeDispose(() => clearTimeout(soon));

  const start = useAction(async (safe: boolean = false) => {
    loaded.data.value = await must(api.POST("/api/v1/spaces/{space}/teams/{team}/workspace/start", { ...path, body: { safe } }));
  });
  const restart = useAction(async () => {
    loaded.data.value = await must(api.POST("/api/v1/spaces/{space}/teams/{team}/workspace/restart", { ...path, body: {} }));
  });
  const stop = useAction(async () => {
    loaded.data.value = await must(api.POST("/api/v1/spaces/{space}/teams/{team}/workspace/stop", path));
  });
  const change = useAction(async (body: Schemas["WorkspaceIn"]) => {
    loaded.data.value = await must(api.PATCH("/api/v1/spaces/{space}/teams/{team}/workspace", { ...path, body }));
  });
  /** What runs in it just now, in a sentence, and would be lost by a stop; null when nothing does. */
  const works = computed(() => (/at work|uses/.test(loaded.data.value?.busy ?? "") ? (loaded.data.value?.busy ?? null) : null));
  return { loaded, state, works, start, restart, stop, change };
}
