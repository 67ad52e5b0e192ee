// The page comes to life: what is kept is read, the server is asked what it serves.

import * as actions from "./actions.js";
import { startComposer } from "./composer.js";
import { startKeys } from "./keys.js";
import { startMeter } from "./meter.js";
import { startNotices } from "./notices.js";
import { startPanels } from "./panels.js";
import { startSettings } from "./settings.js";
import { startSidebar } from "./sidebar.js";
import { startThread } from "./thread.js";
import { watch } from "./watch.js";

startPanels();
startNotices();
startThread();
startComposer();
startSidebar();
startSettings();
startMeter();
startKeys();
await actions.load();
await watch();
