// Names of what a page keeps. Pages in other folders of one host share its storage, and are about other materials.

export const ownName = (name) => `${name} ${location.pathname.replace(/[^/]*$/, "")}`;
