//! What the sidecar makes of difficult films, looked at box by box and frame by frame. The films are made here with ffmpeg; each
//! frame of most has its number painted on, so that a frame in the wrong place is known by its number. And still pictures: of films
//! and of files beside them, as the sidecar makes them (`stills`) and as the edge serves them (`served`).

mod grid;
mod hostile;
mod kinds;
mod remux;
mod served;
mod stills;
mod world;
