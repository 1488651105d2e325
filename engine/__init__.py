"""The engine of LMSI: everything between the store and the screen."""
